"""From a model's configuration to the GGUF it must become: every tensor, its shape and type, and the exact bytes.

A file can be well formed and still lack a tensor: llama.cpp loads a model without its
``output.weight`` or its biases, and speaks garbage. The tensor names are llama.cpp's
(gguf-py ``tensor_mapping.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic_core import from_json

from harness.artifacts import gguf
from harness.artifacts.quantizations import BY_NAME
from harness.core.errors import BadInput

LORA_TARGETS: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ARCHITECTURES: Final = {"Qwen2ForCausalLM": "qwen2", "LlamaForCausalLM": "llama"}
"""Transformers' name of an architecture -> llama.cpp's."""

_MAX = 1 << 24
_FALLBACK: Final = {"Q4_K": "Q5_0", "Q6_K": "Q8_0"}  # llama.cpp's choice for rows that are not whole blocks of 256


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Settings that decide the tensors of a dense Qwen2 or Llama model; the names are those of its ``config.json``."""

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
    rope_factors: bool = False
    """Llama 3's rope scaling puts a tensor of frequency factors into the file."""

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
    if named not in ARCHITECTURES:
        raise BadInput(f"the model's architecture is {named!r}; known are {', '.join(ARCHITECTURES)}")
    heads = _size(config, "num_attention_heads")
    hidden = _size(config, "hidden_size")
    qwen = named == "Qwen2ForCausalLM"
    bias = not qwen and config.get("attention_bias") is True
    rope = config.get("rope_scaling") or config.get("rope_parameters")
    if config.get("head_dim") is None and hidden % heads:
        raise BadInput(f"the model's hidden_size {hidden} is not a multiple of its {heads} heads")
    return ModelShape(
        architecture=str(named),
        hidden_size=hidden,
        num_hidden_layers=_size(config, "num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=_size(config, "num_key_value_heads", heads),
        intermediate_size=_size(config, "intermediate_size"),
        vocab_size=_size(config, "vocab_size"),
        tie_word_embeddings=config.get("tie_word_embeddings") is True,
        head_dim=_size(config, "head_dim", hidden // heads),
        qkv_bias=qwen or bias,
        output_bias=bias,
        mlp_bias=not qwen and config.get("mlp_bias") is True,
        rope_factors=not qwen and isinstance(rope, dict) and rope.get("rope_type", rope.get("type")) == "llama3",
    )


def read_config(path: Path, most: int = 8 << 20) -> dict[str, Any]:
    """Read a ``config.json``, or another JSON object of ``most`` bytes that Transformers saves. Raises BadInput."""
    try:
        if path.stat().st_size > most:
            raise BadInput(f"{path} is larger than {most} bytes")
        body = from_json(path.read_bytes(), cache_strings="none")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise BadInput(f"{path} is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadInput(f"{path} is not a JSON object")
    return body


def predict(shape: ModelShape, quantization: str) -> tuple[ExpectedTensor, ...]:
    """Every tensor of the GGUF. Raises BadInput for a quantization that cannot be predicted."""
    if quantization not in BY_NAME:
        raise BadInput(f"quantization {quantization!r} cannot be predicted; known are {', '.join(BY_NAME)}")
    return tuple(
        ExpectedTensor(name, dimensions, _type(shape, name, dimensions, quantization))
        for name, dimensions in _shapes(shape).items()
    )


def data_bytes(shape: ModelShape, quantization: str) -> int:
    """The exact bytes of all tensors' data; the file has its header more (6 MB with a vocabulary of 150,000)."""
    return sum(tensor.nbytes for tensor in predict(shape, quantization))


def parameters(shape: ModelShape) -> int:
    """Number of weights in the model, tied ones once."""
    return sum(math.prod(dimensions) for dimensions in _shapes(shape).values())


def lora_parameters(shape: ModelShape, rank: int, targets: Sequence[str] = LORA_TARGETS) -> int:
    """Number of weights in a LoRA adapter of this rank on these projections. Raises BadInput for an unknown one."""
    sizes = {target: width + height for target, (_, width, height, _) in _projections(shape).items()}
    unknown = sorted(set(targets) - set(sizes))
    if unknown:
        raise BadInput(f"the adapter's target {unknown[0]!r} is none of {', '.join(sizes)}")
    return rank * shape.num_hidden_layers * sum(sizes[target] for target in set(targets))


def _projections(shape: ModelShape) -> dict[str, tuple[str, int, int, bool]]:
    """A layer's matrices by the adapter's name for them: llama.cpp's name, width, height, and whether it has a bias."""
    hidden, wide = shape.hidden_size, shape.intermediate_size
    return {
        "q_proj": ("attn_q", hidden, shape.query_size, shape.qkv_bias),
        "k_proj": ("attn_k", hidden, shape.key_value_size, shape.qkv_bias),
        "v_proj": ("attn_v", hidden, shape.key_value_size, shape.qkv_bias),
        "o_proj": ("attn_output", shape.query_size, hidden, shape.output_bias),
        "gate_proj": ("ffn_gate", hidden, wide, shape.mlp_bias),
        "up_proj": ("ffn_up", hidden, wide, shape.mlp_bias),
        "down_proj": ("ffn_down", wide, hidden, shape.mlp_bias),
    }


def _shapes(shape: ModelShape) -> dict[str, tuple[int, ...]]:
    hidden = shape.hidden_size
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (hidden, shape.vocab_size)}
    projections = _projections(shape).values()
    for layer in range(shape.num_hidden_layers):
        for name, width, height, bias in projections:
            found[f"blk.{layer}.{name}.weight"] = (width, height)
            if bias:
                found[f"blk.{layer}.{name}.bias"] = (height,)
        found[f"blk.{layer}.attn_norm.weight"] = (hidden,)
        found[f"blk.{layer}.ffn_norm.weight"] = (hidden,)
    found["output_norm.weight"] = (hidden,)
    if not shape.tie_word_embeddings:
        found["output.weight"] = (hidden, shape.vocab_size)
    if shape.rope_factors:
        found["rope_freqs.weight"] = (shape.head_dim // 2,)
    return found


def _type(shape: ModelShape, name: str, dimensions: tuple[int, ...], quantization: str) -> str:
    if len(dimensions) == 1:
        return "F32"
    wanted = BY_NAME[quantization].tensor_type(name, shape.num_hidden_layers, shape.tie_word_embeddings)
    if dimensions[0] % gguf.BLOCKS[wanted][0]:
        wanted = _FALLBACK.get(wanted, "F16")
    if dimensions[0] % gguf.BLOCKS[wanted][0]:
        wanted = "F16"
    return wanted


def _size(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = config.get(name)
    if value is None:
        value = default
    if type(value) is not int or not 0 < value <= _MAX:
        raise BadInput(f"the model's {name} is {value!r}, expected a whole number above zero")
    return value
