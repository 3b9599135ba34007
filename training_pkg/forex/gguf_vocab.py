"""A tokenizer's GGUF keys, from tokenizer.json itself: the ids, their types, the merges, the pre-tokenizer's name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import template
from .chat import Chat
from .errors import ExportDefect
from .gguf_file import Value
from .gguf_model import ELSE
from .weights import read_object

_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5
"""llama.cpp's enum llama_token_type."""

_LOOKS_SPECIAL = re.compile(r"<\|.*\|>|<｜.*｜>")  # noqa: RUF001 - DeepSeek's own bars

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LOWER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
_UPPER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"

_PRE: Mapping[tuple[str, ...], str] = {
    (rf"{_WORDS}\p{{N}}{_REST}", "bytes"): "qwen2",
    (rf"{_WORDS}\p{{N}}{{1,3}}{_REST}", "bytes"): "llama-bpe",
    (rf"{_LOWER}|{_UPPER}|\p{{N}}{_TAIL}", "bytes"): "tekken",
    ("digits", "bytes of words"): "smollm",
    ("bytes of words",): "gpt-2",
}
"""Steps of a published tokenizer.json -> the name under which llama.cpp splits that way (llama-vocab.cpp)."""

_MATCHES_APART = frozenset({("Isolated", False), ("Removed", True)})
"""Two ways of saying that each match is a word; these expressions match every letter."""


def metadata(directory: Path, vocab_size: int, chat: Chat) -> dict[str, Value]:
    """The keys ``tokenizer.*``; raises ExportDefect for a vocabulary that is no byte-level BPE."""
    tokenizer, turns = chat.tokenizer, chat.turns
    described = read_object(directory / "tokenizer.json")
    model = described.get("model")
    if not isinstance(model, dict):
        raise ExportDefect(f"{directory / 'tokenizer.json'} describes no tokenizer")
    kind = model.get("type", "BPE" if "merges" in model else None)  # old files do not name it
    if kind != "BPE" or model.get("byte_fallback"):
        kind = f"{kind}{' with byte fallback' if model.get('byte_fallback') else ''}"
        raise ExportDefect(f"the tokenizer is {kind} (SentencePiece's, mostly); only byte-level BPE is exported{ELSE}")
    tokens, types = _tokens(model["vocab"], described.get("added_tokens") or [], vocab_size)
    loaded = tokenizer.get_vocab()
    for number, (text, kind) in enumerate(zip(tokens, types, strict=True)):
        if kind != _UNUSED and loaded.get(text) != number:
            raise ExportDefect(
                f"the token {text!r} has id {number} in tokenizer.json and {loaded.get(text)} where it is loaded, so "
                "what is trained is not what would be written; use the tokenizer as it was published"
            )
    values: dict[str, Value] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": _pre(described, tokenizer.bos_token),
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]],
        "tokenizer.chat_template": turns.published,
        "tokenizer.ggml.add_bos_token": turns.begins,
    }
    for key, token in (("bos", "bos_token_id"), ("eos", "eos_token_id"), ("padding", "pad_token_id")):
        if (number := getattr(tokenizer, token)) is not None:
            values[f"tokenizer.ggml.{key}_token_id"] = number
    if turns.end != tokenizer.eos_token:  # else a runtime would go on behind the answer
        values["tokenizer.ggml.eot_token_id"] = tokenizer.convert_tokens_to_ids(turns.end)
    return values


def _tokens(vocabulary: Mapping[str, int], added: list[Mapping[str, Any]], size: int) -> tuple[list[str], list[int]]:
    """Every id's text and type; ids that the model has and the tokenizer has not are padding, as in llama.cpp."""
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [_UNUSED] * size
    known = [*vocabulary.items(), *((entry["content"], entry["id"]) for entry in added)]
    for text, number in known:
        if not 0 <= number < size:
            raise ExportDefect(
                f"the token {text!r} has id {number}, the model has {size}: the tokenizer was given tokens that the "
                "model was not resized for; use them as they were published together"
            )
        tokens[number], types[number] = text, _NORMAL
    for entry in added:
        number, text = entry["id"], entry["content"]
        control = entry.get("special") or _LOOKS_SPECIAL.fullmatch(text)
        tokens[number], types[number] = text, _CONTROL if control else _USER_DEFINED
    return tokens, types


def _pre(described: Mapping[str, Any], bos: str | None) -> str:
    """llama.cpp's name for the way of splitting before BPE; without the right one, token ids differ in silence."""
    normalizer = (described.get("normalizer") or {}).get("type", "NFC")
    if normalizer != "NFC":
        raise ExportDefect(f"the tokenizer rewrites texts ({normalizer}) and llama.cpp does not{ELSE}")
    steps = tuple(_steps(described.get("pre_tokenizer") or {}))
    if steps not in _PRE:
        known = f"known: {', '.join(_PRE.values())}{ELSE}"
        raise ExportDefect(f"llama.cpp's name for this pre-tokenizer is not known here: {steps!r}; {known}")
    return "deepseek-r1-qwen" if _PRE[steps] == "qwen2" and bos == template.BOS else _PRE[steps]


def _steps(step: Mapping[str, Any]) -> Iterator[str]:
    """A pre-tokenizer's steps one after another, each as a word or the expression that it splits by."""
    kind = step.get("type")
    if kind == "Sequence":
        for part in step.get("pretokenizers") or []:
            yield from _steps(part)
    elif kind == "Split" and (step.get("behavior"), step.get("invert")) in _MATCHES_APART:
        yield str(step.get("pattern", {}).get("Regex"))
    elif kind == "Digits" and step.get("individual_digits"):
        yield "digits"
    elif kind == "ByteLevel" and not step.get("add_prefix_space"):
        yield "bytes of words" if step.get("use_regex", True) else "bytes"
    else:
        yield str(dict(step))
