"""Parameters of a dense model by their names in Transformers, by way of llama.cpp's names for them."""

from __future__ import annotations

import re
from typing import Final

from harness.artifacts import model_shape

_LAYER: Final = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
_WORDS: Final = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""llama.cpp's names of a layer's parts -> Transformers'."""
_POST_NORMS: Final = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_WHOLE: Final = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def of(shape: model_shape.ModelShape) -> dict[str, tuple[int, ...]]:
    """Every parameter with its shape as PyTorch has it; the head among them where it is tied to the embeddings."""
    words = _WORDS | (_POST_NORMS if shape.family.post_norms else {})
    if shape.family.fused:
        words |= {"ffn_up": "mlp.gate_up_proj"}
    found = {}
    sizes = model_shape.shapes(shape)
    sizes.setdefault("output.weight", sizes["token_embd.weight"])
    for name, dimensions in sizes.items():
        match = _LAYER.fullmatch(name)
        spelled = f"model.layers.{match[1]}.{words[match[2]]}.{match[3]}" if match else _WHOLE.get(name)
        if spelled is not None:  # factors of the rope are computed
            found[spelled] = tuple(reversed(dimensions))
    return found
