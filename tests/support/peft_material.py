"""Adapters as the installed PEFT saves them, on tiny models, with what it merges them to; and GGUFs of either."""

from __future__ import annotations

import copy
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from harness.remote.box import finetune

HEADS, KV_HEADS = 4, 2
CONFIG: Final[Mapping[str, Any]] = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "intermediate_size": 96,
    "vocab_size": 128,
}
ARCHITECTURES: Final = {"qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM"}
State = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Material:
    """A trained adapter in ``folder/adapter``, its base in ``folder/base``; weights of the base and of the merge."""

    folder: Path
    architecture: str
    tied: bool
    base: State
    merged: State | None

    @property
    def config(self) -> dict[str, Any]:
        """The base model's configuration."""
        return {**CONFIG, "architectures": [ARCHITECTURES[self.architecture]], "tie_word_embeddings": self.tied}


def make(folder: Path, architecture: str, *, tied: bool = False, **lora: Any) -> Material:
    """A LoRA with these fields of LoraConfig, every number that it trains moved. ``merged``: None where PEFT cannot."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

    torch.manual_seed(3)
    kind = {"qwen2": Qwen2Config, "llama": LlamaConfig}[architecture]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_config(kind(**CONFIG, tie_word_embeddings=tied))
        model.save_pretrained(folder / "base")
        base = _state(model)
        adapted = get_peft_model(model, LoraConfig(r=8, task_type="CAUSAL_LM", **copy.deepcopy(lora)))
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.02)
        adapted.save_pretrained(folder / "adapter")
        try:
            merged = _state(adapted.merge_and_unload())
        except RuntimeError:
            merged = None
    return Material(folder, architecture, tied, base, merged)


def _state(model: Any) -> State:
    """Every parameter; a head that equals the embeddings is none of its own."""
    found = {name: tensor.detach().float().numpy().copy() for name, tensor in model.state_dict().items()}
    if np.array_equal(found["lm_head.weight"], found["model.embed_tokens.weight"]):
        del found["lm_head.weight"]
    return found


def write_gguf(path: Path, architecture: str, state: State, quantization: str = "Q8_0") -> Path:
    """These weights as llama.cpp's converter would lay them out; vectors stay F32."""
    import gguf

    kind = gguf.GGMLQuantizationType[quantization]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    for parameter, values in state.items():
        name = _renamed(parameter)
        heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(name.split(".")[-2]) if architecture == "llama" else None
        if heads:
            halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
            values = halves.swapaxes(1, 2).reshape(values.shape)  # noqa: PLW2901 - the same numbers in another order
        values = np.ascontiguousarray(values)  # noqa: PLW2901 - as above
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _renamed(parameter: str) -> str:
    module, _, suffix = parameter.rpartition(".")
    layer = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", module)
    if layer:
        return f"blk.{layer[1]}.{MODULES[layer[2]]}.{suffix}"
    return f"{TOP[module]}.{suffix}"


MODULES: Final = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
TOP: Final = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def compared(material: Material, state: State, quantization: str = "Q8_0") -> Any:
    """Answer of the box's program about a GGUF of these weights."""
    path = write_gguf(material.folder / "model.gguf", material.architecture, state, quantization)
    try:
        return finetune.compared(str(path), str(material.folder / "adapter"), str(material.folder / "base"))
    finally:
        path.unlink()


def read_config(folder: Path) -> dict[str, Any]:
    """The adapter's configuration."""
    body: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    return body
