"""A tokenizer's GGUF keys, from tokenizer.json itself: the ids, their types, the merges, the pre-tokenizer's name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import template
from .errors import ExportDefect
from .gguf_file import Value
from .weights import read_object

_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5
"""llama.cpp's enum llama_token_type."""

_LOOKS_SPECIAL = re.compile(r"<\|.*\|>|<｜.*｜>")  # noqa: RUF001 - DeepSeek's own bars

_PRE_BY_SPLIT = {
    # A letter-run with any other sign before it, digits one by one: Qwen2. Up to three digits: Llama 3.
    r"\p{N}| ?": "qwen2",
    r"\p{N}{1,3}| ?": "llama-bpe",
}


def metadata(directory: Path, vocab_size: int, tokenizer: Any) -> dict[str, Value]:
    """The keys ``tokenizer.*``; raises ExportDefect for a vocabulary that is no byte-level BPE."""
    described = read_object(directory / "tokenizer.json")
    model = described.get("model")
    if not isinstance(model, dict):
        raise ExportDefect(f"{directory / 'tokenizer.json'} describes no tokenizer")
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise ExportDefect(f"the tokenizer is {model.get('type')} with byte fallback; only byte-level BPE is exported")
    tokens, types = _tokens(model["vocab"], described.get("added_tokens") or [], vocab_size)
    values: dict[str, Value] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": _pre(described, tokenizer),
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]],
        "tokenizer.chat_template": chat_template(tokenizer),
        "tokenizer.ggml.add_bos_token": tokenizer.bos_token_id is not None,
    }
    for key, token in (("bos", "bos_token_id"), ("eos", "eos_token_id"), ("padding", "pad_token_id")):
        if (number := getattr(tokenizer, token)) is not None:
            values[f"tokenizer.ggml.{key}_token_id"] = number
    return values


def chat_template(tokenizer: Any) -> str:
    """The template to publish: the tokenizer's own when it asks as the training did, else the training's."""
    own = tokenizer.chat_template
    if isinstance(own, str):
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": "?"}], add_generation_prompt=True, tokenize=False
        )
        if asked == f"{tokenizer.bos_token or ''}{template.prompt_text('?')}":
            return own
    return template.CHAT_TEMPLATE


def _tokens(vocabulary: Mapping[str, int], added: list[Mapping[str, Any]], size: int) -> tuple[list[str], list[int]]:
    """Every id's text and type; ids that the model has and the tokenizer has not are padding, as in llama.cpp."""
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [_UNUSED] * size
    for text, number in vocabulary.items():
        tokens[number], types[number] = text, _NORMAL
    for entry in added:
        number, text = entry["id"], entry["content"]
        if number >= size:
            raise ExportDefect(f"the token {text!r} has id {number}, the model has {size}")
        control = entry.get("special") or _LOOKS_SPECIAL.fullmatch(text)
        tokens[number], types[number] = text, _CONTROL if control else _USER_DEFINED
    return tokens, types


def _pre(described: Mapping[str, Any], tokenizer: Any) -> str:
    """llama.cpp's name for the way of splitting before BPE; without the right one, token ids differ in silence."""
    splits = re.findall(r'"Regex": "((?:[^"\\]|\\.)*)"', json.dumps(described.get("pre_tokenizer"), ensure_ascii=False))
    for sign, name in _PRE_BY_SPLIT.items():
        if any(sign in split.replace("\\\\", "\\") for split in splits):
            return "deepseek-r1-qwen" if name == "qwen2" and tokenizer.bos_token == template.BOS else name
    raise ExportDefect("the tokenizer's pre-tokenizer is neither Qwen2's nor Llama 3's; its name in GGUF is not known")
