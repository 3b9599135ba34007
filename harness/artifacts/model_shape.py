"""From a model's configuration to the GGUF it must become: every tensor, its shape and type, and the exact bytes.

A file can be well formed and still lack a tensor: llama.cpp loads a model without its
``output.weight`` or its biases, and speaks garbage. The tensor names are llama.cpp's
(gguf-py ``tensor_mapping.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic_core import from_json

from harness.artifacts import gguf, quantizations
from harness.core.errors import BadInput
from harness.core.reading import whole

SIZES: Final = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "vocab_size",
)
"""The sizes of a model that its ``config.json`` and a job file state by the same names."""


@dataclass(frozen=True, slots=True)
class Family:
    """Dense architecture: llama.cpp's name, and what sets its tensors apart from Llama's.

    ``qkv_bias`` is there whatever the configuration says, ``head_norms`` are norms of queries and keys, ``post_norms``
    norms behind attention and feed-forward; ``fused`` keeps query, key and value in one matrix, gate and up in another;
    ``trimmed`` means that a GGUF leaves out the embeddings of ids that no token has;
    ``tied`` holds where the configuration does not say whether the embeddings are the output matrix.
    """

    name: str
    qkv_bias: bool = False
    head_norms: bool = False
    post_norms: bool = False
    fused: bool = False
    trimmed: bool = False
    tied: bool = False


FAMILIES: Final = {
    "LlamaForCausalLM": Family("llama"),
    "MistralForCausalLM": Family("llama"),
    "Qwen2ForCausalLM": Family("qwen2", qkv_bias=True),
    "Qwen3ForCausalLM": Family("qwen3", head_norms=True),
    "SmolLM3ForCausalLM": Family("smollm3", tied=True),
    "GraniteForCausalLM": Family("granite"),
    "Phi3ForCausalLM": Family("phi3", fused=True),
    "GemmaForCausalLM": Family("gemma", tied=True),
    "Gemma2ForCausalLM": Family("gemma2", post_norms=True, tied=True),
    "Gemma3ForCausalLM": Family("gemma3", head_norms=True, post_norms=True, trimmed=True, tied=True),
}
"""Transformers' name of an architecture -> its family; of two that share llama.cpp's name the first stands for both."""
_EXPERTS: Final = ("num_local_experts", "num_experts", "n_routed_experts")
_MAX = 1 << 24


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Settings that decide the tensors of a dense model; the names are those of its ``config.json``."""

    architecture: str
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    vocab_size: int
    tie_word_embeddings: bool
    head_dim: int
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    rope_factors: tuple[str, ...] = ()
    """Tensors of frequency factors that the rope scaling puts into the file."""
    rotary_size: int = 0
    """Width of a head's part that is rotated."""
    family: Family = FAMILIES["LlamaForCausalLM"]

    @property
    def query_size(self) -> int:
        """The width of all query heads together."""
        return self.num_attention_heads * self.head_dim

    @property
    def key_value_size(self) -> int:
        """The width of all key (or value) heads together."""
        return self.num_key_value_heads * self.head_dim


@dataclass(frozen=True, slots=True)
class ExpectedTensor:
    """A tensor as the GGUF must state it: shape as stored there (fastest dimension first)."""

    name: str
    shape: tuple[int, ...]
    type: str

    @property
    def nbytes(self) -> int:
        """The bytes of its data."""
        return gguf.nbytes(self.type, self.shape)


def architecture(config: Mapping[str, Any]) -> object:
    """The architecture that a ``config.json`` names, in Transformers' word; None when it names none."""
    listed = config.get("architectures")
    return config.get("architecture") or (listed[0] if isinstance(listed, list) and listed else None)


def from_config(config: Mapping[str, Any]) -> ModelShape:
    """Read the fields of a Hugging Face ``config.json`` (or of ``run.json``'s ``model.config``).

    Raises BadInput naming the field that is missing, odd, or of an architecture that cannot be predicted.
    """
    named = architecture(config)
    family = FAMILIES.get(str(named))
    if family is None:
        raise BadInput(f"the model's architecture is {named!r}; known are {', '.join(FAMILIES)}")
    for word in _EXPERTS:
        if isinstance(experts := config.get(word), int) and experts > 1:
            raise BadInput(f"the model's {word} is {experts}; known are dense models")
    heads = _size(config, "num_attention_heads")
    hidden = _size(config, "hidden_size")
    bias = config.get("attention_bias") is True and family.name != "qwen2"
    if config.get("head_dim") is None and hidden % heads:
        raise BadInput(f"the model's hidden_size {hidden} is not a multiple of its {heads} heads")
    head = _size(config, "head_dim", hidden // heads)
    tied = config.get("tie_word_embeddings")
    rope = rope_settings(config)
    return ModelShape(
        architecture=str(named),
        hidden_size=hidden,
        num_hidden_layers=_size(config, "num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=_size(config, "num_key_value_heads", heads),
        intermediate_size=_size(config, "intermediate_size"),
        vocab_size=_size(config, "vocab_size"),
        tie_word_embeddings=tied is True or (tied is None and family.tied),
        head_dim=head,
        qkv_bias=family.qkv_bias or bias,
        output_bias=bias,
        mlp_bias=family.name != "qwen2" and config.get("mlp_bias") is True,
        rope_factors=_ROPE_TENSORS.get(rope_type(rope), ()),
        rotary_size=rotary_size(rope, head),
        family=family,
    )


def rope_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The rope's settings of a ``config.json``: Transformers 5 keeps all in one place, by kind of attention or not."""
    stated = config.get("rope_parameters") or config.get("rope_scaling") or {}
    stated = stated.get("full_attention", stated) if isinstance(stated, dict) else {}
    words = ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings")
    beside = {word: config[word] for word in words if config.get(word) is not None}
    return beside | stated if isinstance(stated, dict) else beside


def rotary_size(rope: Mapping[str, Any], head_dim: int) -> int:
    """Width of a head's part that is rotated: all of it, unless the configuration states a share."""
    share = rope.get("partial_rotary_factor")
    return int(head_dim * share) if isinstance(share, int | float) and 0 < share <= 1 else head_dim


def rope_type(rope: Mapping[str, Any]) -> str:
    """Kind of rope scaling, ``default`` without one."""
    kind = str(rope.get("rope_type") or rope.get("type") or "default").lower()
    return {"su": "longrope"}.get(kind, kind)


_ROPE_TENSORS: Final = {
    "llama3": ("rope_freqs.weight",),
    "longrope": ("rope_factors_long.weight", "rope_factors_short.weight"),
}


MAX_CONFIG_BYTES: Final = 8 << 20


def read_config(path: Path, most: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """Read a ``config.json``, or another JSON object of ``most`` bytes that Transformers saves. Raises BadInput."""
    try:
        body = from_json(whole(path, most), cache_strings="none")
    except ValueError as error:
        raise BadInput(f"{path} is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadInput(f"{path} is not a JSON object")
    return body


def predict(shape: ModelShape, quantization: str) -> tuple[ExpectedTensor, ...]:
    """Every tensor of the GGUF. Raises BadInput for a quantization that cannot be predicted."""
    if quantization not in quantizations.BY_NAME:
        known = ", ".join(quantizations.BY_NAME)
        raise BadInput(f"quantization {quantization!r} cannot be predicted; known are {known}")
    chosen = quantizations.BY_NAME[quantization]
    model = quantized(shape)
    return tuple(
        ExpectedTensor(name, dimensions, chosen.stored(name, dimensions, model))
        for name, dimensions in shapes(shape).items()
    )


def quantized(shape: ModelShape) -> quantizations.Model:
    """A model as llama.cpp's quantizer looks at it."""
    sharing = shape.num_attention_heads // shape.num_key_value_heads
    return quantizations.Model(shape.num_hidden_layers, shape.tie_word_embeddings, sharing)


def data_bytes(shape: ModelShape, quantization: str) -> int:
    """The exact bytes of all tensors' data; the file has its header more (6 MB with a vocabulary of 150,000)."""
    return sum(tensor.nbytes for tensor in predict(shape, quantization))


def parameters(shape: ModelShape) -> int:
    """Number of weights in the model, tied ones once."""
    return sum(math.prod(dimensions) for dimensions in shapes(shape).values())


def lora_parameters(shape: ModelShape, rank: int) -> int:
    """Number of weights in a LoRA adapter of this rank on every projection of every layer."""
    return rank * shape.num_hidden_layers * sum(width + height for _, width, height, _ in _projections(shape).values())


def _projections(shape: ModelShape) -> dict[str, tuple[str, int, int, bool]]:
    """A layer's matrices by the adapter's name for them: llama.cpp's name, width, height, and whether it has a bias."""
    hidden, wide = shape.hidden_size, shape.intermediate_size
    attention = {
        "q_proj": ("attn_q", hidden, shape.query_size, shape.qkv_bias),
        "k_proj": ("attn_k", hidden, shape.key_value_size, shape.qkv_bias),
        "v_proj": ("attn_v", hidden, shape.key_value_size, shape.qkv_bias),
    }
    forward = {
        "gate_proj": ("ffn_gate", hidden, wide, shape.mlp_bias),
        "up_proj": ("ffn_up", hidden, wide, shape.mlp_bias),
    }
    if shape.family.fused:
        together = shape.query_size + 2 * shape.key_value_size
        attention = {"qkv_proj": ("attn_qkv", hidden, together, shape.qkv_bias)}
        forward = {"gate_up_proj": ("ffn_up", hidden, 2 * wide, shape.mlp_bias)}
    return {
        **attention,
        "o_proj": ("attn_output", shape.query_size, hidden, shape.output_bias),
        **forward,
        "down_proj": ("ffn_down", wide, hidden, shape.mlp_bias),
    }


def shapes(shape: ModelShape) -> dict[str, tuple[int, ...]]:
    """Every tensor of the GGUF by name, with its shape as stored there."""
    hidden = shape.hidden_size
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (hidden, shape.vocab_size)}
    projections = _projections(shape).values()
    norms = {"attn_norm": hidden, "ffn_norm": hidden}
    if shape.family.head_norms:
        norms |= {"attn_q_norm": shape.head_dim, "attn_k_norm": shape.head_dim}
    if shape.family.post_norms:
        norms |= {"post_attention_norm": hidden, "post_ffw_norm": hidden}
    for layer in range(shape.num_hidden_layers):
        for name, width, height, bias in projections:
            found[f"blk.{layer}.{name}.weight"] = (width, height)
            if bias:
                found[f"blk.{layer}.{name}.bias"] = (height,)
        for name, width in norms.items():
            found[f"blk.{layer}.{name}.weight"] = (width,)
    found["output_norm.weight"] = (hidden,)
    if not shape.tie_word_embeddings:
        found["output.weight"] = (hidden, shape.vocab_size)
    for name in shape.rope_factors:
        found[name] = ((shape.rotary_size or shape.head_dim) // 2,)
    return found


def _size(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = config.get(name)
    if value is None:
        value = default
    if type(value) is not int or not 0 < value <= _MAX:
        raise BadInput(f"the model's {name} is {value!r}, expected a whole number above zero")
    return value
