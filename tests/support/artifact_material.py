"""Models that are several files, as transformers, PEFT and gguf-py write them: tiny, and with random weights."""

from __future__ import annotations

import functools
import json
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.model_files import CHAT_TEMPLATE, TINY, split_gguf, write_gguf, write_training

BASE: Final = "somebody/tiny-llama"
SHAPE: Final[Mapping[str, Any]] = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 128,
}
MODEL: Final[Mapping[str, Any]] = {
    **SHAPE,
    "base": BASE,
    "architecture": "LlamaForCausalLM",
    "lora_r": 8,
    "lora_alpha": 16,
    "dtype": "float32",
}
"""The table ``[model]`` of a job whose base is the tiny one."""

FINAL: Final = "models/output/final"
ADAPTER: Final = "models/output/adapter"


@dataclass(frozen=True, slots=True)
class Material:
    """What a training leaves, by path in the package's directory, and the tables of the job that wants it.

    ``base`` is the folder of the base model.
    """

    files: Mapping[str, bytes]
    tables: Mapping[str, Mapping[str, Any]]
    base: Path


@functools.cache
def of(kind: str) -> Material:
    """The artifact of a kind: ``split`` is a GGUF in three files."""
    return _split() if kind == "split" else _of_folder(kind, seed=3)


@functools.cache
def of_another_run(kind: str) -> Material:
    """The same, trained from other random numbers."""
    return _of_folder(kind, seed=4)


def _split() -> Material:
    folder = Path(tempfile.mkdtemp())
    files = split_gguf(write_gguf(folder / "whole.gguf", TINY), "tiny.Q8_0")
    trained = write_training(folder / "trained", TINY)
    left = {f"{FINAL}/{file.name}": file.read_bytes() for file in files}
    left |= {f"{ADAPTER}/{file.name}": file.read_bytes() for file in trained.iterdir() if file.name != "config.json"}
    shape = {name: TINY[name] for name in SHAPE}
    tables = {
        "artifact": {"floors": {"Q8_0": 100_000}},
        "model": {**MODEL, **shape, "architecture": "Qwen2ForCausalLM"},
    }
    return Material(left, tables, folder)


def _of_folder(kind: str, seed: int) -> Material:
    folder = _trained(seed)
    left = {f"{ADAPTER}/{one.name}": one.read_bytes() for one in (folder / "adapter").iterdir() if one.is_file()}
    if kind == "merged":
        left |= {f"{FINAL}/{one.name}": one.read_bytes() for one in (folder / "merged").iterdir()}
    tables = {"artifact": {"kind": kind, "floor": 10_000}, "model": MODEL}
    return Material(left, tables, folder / "base")


@functools.cache
def _trained(seed: int) -> Path:
    """A folder with ``base``, ``adapter`` and ``merged``, the last in several files."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, LlamaConfig

    folder = Path(tempfile.mkdtemp())
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE))
        model.save_pretrained(folder / "base")
        torch.manual_seed(seed)
        adapted = get_peft_model(
            model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
        )
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.02)
        adapted.save_pretrained(folder / "adapter")
        adapted.merge_and_unload().save_pretrained(folder / "merged", max_shard_size="150KB")
    _name_base(folder / "adapter" / "adapter_config.json", BASE)
    for place in ("adapter", "merged"):
        _tokenizer(folder / place)
    return folder


def _name_base(path: Path, name: str) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "base_model_name_or_path": name}))


def _tokenizer(folder: Path) -> None:
    """A tokenizer as the tokenizers library saves it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: at for at, token in enumerate(("<s>", "</s>", *map(chr, range(33, 126))))}
    made = Tokenizer(models.BPE(vocabulary, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
