"""A model in llama.cpp's words: its tensors' names, shapes and types, and its configuration's keys. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from . import ggml, gguf_file
from .errors import ExportDefect

ARCHITECTURES = {
    "Qwen2ForCausalLM": "qwen2",
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen3ForCausalLM": "qwen3",
}

_ALWAYS = {
    "hidden_act": "silu",
    "mlp_bias": False,
    "use_sliding_window": False,
    "partial_rotary_factor": 1.0,
    "quantization_config": None,
}
"""Settings of a configuration that llama.cpp knows one value of in these architectures, and would not ask for."""

ELSE = "; use another base, or bring the adapter home and merge and convert it there"
"""Advice for every base that cannot be exported here."""

FILE_TYPES = {"F16": 1, "Q8_0": 7, "Q4_K_M": 15}
"""llama.cpp's enum llama_ftype."""

NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
}
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)")
_LAYER_ORDER = {name: at for at, name in enumerate(LAYER_NAMES.values())}


def architecture(config: Mapping[str, Any]) -> str:
    """llama.cpp's name of the architecture; raises ExportDefect for one that is not exported here."""
    names = config.get("architectures") or ["none"]
    if names[0] not in ARCHITECTURES:
        raise ExportDefect(f"{names[0]} is not exported; known: {', '.join(ARCHITECTURES)}{ELSE}")
    return ARCHITECTURES[names[0]]


def refuse_unknown(config: Mapping[str, Any]) -> None:
    """Raise ExportDefect for a configuration that llama.cpp would run otherwise, or not at all."""
    named = architecture(config)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if (scaling := rope.get("rope_type") or rope.get("type") or "default") != "default":
        raise ExportDefect(f"rope scaling of type {scaling} is not exported; known: none{ELSE}")
    wanted = dict(_ALWAYS)
    if named == "llama":
        wanted["sliding_window"] = None
    for name, value in wanted.items():
        if config.get(name, value) != value:
            raise ExportDefect(f"{name} = {str(config[name])[:80]!r} is not exported; known: {value!r}{ELSE}")


def head_size(config: Mapping[str, Any]) -> int:
    """Elements of one attention head."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def renamed(name: str) -> str:
    """A tensor's name in GGUF; raises ExportDefect for a tensor that has no place there."""
    if name in NAMES:
        return NAMES[name]
    match = _LAYER.fullmatch(name)
    if match is None or match[2] not in LAYER_NAMES:
        raise ExportDefect(f"the base model's tensor {name} has no place in the GGUF")
    return f"blk.{match[1]}.{LAYER_NAMES[match[2]]}.{match[3]}"


def expected(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor that a model of this configuration has, by GGUF name, with its shape."""
    hidden, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads = config["num_attention_heads"]
    head = head_size(config)
    queries, keys = heads * head, config.get("num_key_value_heads", heads) * head
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (vocabulary, hidden)}
    biased = architecture(config) == "qwen2" or config.get("attention_bias", False)
    for layer in range(config["num_hidden_layers"]):
        block = f"blk.{layer}"
        shapes |= {
            f"{block}.attn_norm.weight": (hidden,),
            f"{block}.ffn_norm.weight": (hidden,),
            f"{block}.attn_q.weight": (queries, hidden),
            f"{block}.attn_k.weight": (keys, hidden),
            f"{block}.attn_v.weight": (keys, hidden),
            f"{block}.attn_output.weight": (hidden, queries),
            f"{block}.ffn_gate.weight": (inner, hidden),
            f"{block}.ffn_up.weight": (inner, hidden),
            f"{block}.ffn_down.weight": (hidden, inner),
        }
        if biased:
            shapes |= {
                f"{block}.attn_q.bias": (queries,),
                f"{block}.attn_k.bias": (keys,),
                f"{block}.attn_v.bias": (keys,),
            }
        if architecture(config) == "qwen3":
            shapes |= {f"{block}.attn_q_norm.weight": (head,), f"{block}.attn_k_norm.weight": (head,)}
    shapes["output_norm.weight"] = (hidden,)
    if not config.get("tie_word_embeddings", False):
        shapes["output.weight"] = (vocabulary, hidden)
    return shapes


def metadata(config: Mapping[str, Any], *, name: str, quantization: str) -> dict[str, gguf_file.Value]:
    """The keys that describe the model; the vocabulary's are in gguf_vocab."""
    refuse_unknown(config)
    kind = architecture(config)
    heads = config["num_attention_heads"]
    rope = config.get("rope_parameters") or {}
    values: dict[str, gguf_file.Value] = {
        "general.architecture": kind,
        "general.type": "model",
        "general.name": name,
        "general.file_type": FILE_TYPES[quantization],
        "general.quantization_version": 2,
        f"{kind}.block_count": config["num_hidden_layers"],
        f"{kind}.context_length": config["max_position_embeddings"],
        f"{kind}.embedding_length": config["hidden_size"],
        f"{kind}.feed_forward_length": config["intermediate_size"],
        f"{kind}.attention.head_count": heads,
        f"{kind}.attention.head_count_kv": config.get("num_key_value_heads", heads),
        f"{kind}.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        f"{kind}.rope.freq_base": float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0),
        f"{kind}.vocab_size": config["vocab_size"],
    }
    if head := config.get("head_dim"):
        values |= {f"{kind}.attention.key_length": head, f"{kind}.attention.value_length": head}
    return values


def tensors(config: Mapping[str, Any], quantization: str) -> tuple[gguf_file.Tensor, ...]:
    """The tensors of a GGUF file, from the model's configuration alone."""
    shapes = expected(config)
    return gguf_file.layout(
        [(name, _kind(name, shapes[name], quantization, config), shapes[name]) for name in sorted(shapes, key=_rank)]
    )


def _kind(name: str, shape: tuple[int, ...], quantization: str, config: Mapping[str, Any]) -> ggml.Type:
    """The type a tensor is written in, as llama.cpp chooses it: one-dimensional ones stay float32."""
    if len(shape) == 1:
        return ggml.Type.F32
    if quantization != "Q4_K_M":
        return ggml.Type[quantization]
    if name == ("token_embd.weight" if config.get("tie_word_embeddings") else "output.weight"):
        return ggml.Type.Q6_K
    part = name.split(".")
    if part[-2] in {"attn_v", "ffn_down"} and _more_bits(int(part[1]), config["num_hidden_layers"]):
        return ggml.Type.Q6_K
    return ggml.Type.Q4_K


def _rank(name: str) -> tuple[int, int, str]:
    """Sorts GGUF names as the model runs: embedding, layers, final norm, output."""
    if name.startswith("blk."):
        _, layer, part, _ = name.split(".")
        return int(layer), _LAYER_ORDER[part], name
    return (-1 if name == "token_embd.weight" else 1 << 30), 0, name


def _more_bits(layer: int, layers: int) -> bool:
    """llama.cpp's rule for the M mixes (llama-quant.cpp, use_more_bits): the ends, and every third between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
