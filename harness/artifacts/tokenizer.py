"""Proof that a GGUF speaks the language that was trained: vocabulary, special ids and chat template, one by one.

llama.cpp loads a model with the wrong end-of-text id, without its pre-tokenizer's name or
with another chat template, and says nothing; the model then never stops, or speaks gibberish.
What was trained is read from the plain JSON that Transformers saves (``tokenizer.json``,
``tokenizer_config.json``, ``chat_template.jinja``), without Transformers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from operator import eq
from pathlib import Path
from typing import Any, Final

from harness.artifacts import gguf
from harness.artifacts.model_shape import read_config
from harness.core.errors import BadInput
from harness.core.text import printable

MAX_FILE_BYTES: Final = 256 << 20
_CONTROL_TYPES: Final = frozenset({3, 4})  # enum llama_token_type: control, user defined
_UNUSED: Final = 5
_OF_PADDING: Final = _CONTROL_TYPES | {2, _UNUSED}  # Llama 2 is padded with its unknown token
_PADDING: Final = re.compile(r"\[PAD\d+\]|<(?:dummy|pad)\d+>")
_END: Final = "the id of the token that ends an answer"
_BY_MERGES: Final = "gpt2"
_SCORED: Final = frozenset({"llama", "t5"})
_ENDLESS: Final = frozenset({"bert", "t5", "rwkv", "no_vocab", "none"})  # encoders, or an end that the program knows
_KNOWN_END: Final = {"llama": 2}  # what llama.cpp takes where a file states none
_SPECIAL: Final = {"bos": "bos", "eos": "eos", "pad": "padding"}  # Transformers' word -> GGUF's

# A piece of the pre-tokenizer's expression -> the names under which llama.cpp splits that way (llama-vocab.cpp)
_PRE: Final = (
    (r"\p{N}{1,3}", frozenset({"llama-bpe", "llama3", "llama-v3"})),
    (r"\p{N}|", frozenset({"qwen2", "deepseek-r1-qwen"})),
)
_OTHERWISE: Final = frozenset({None, "default", "gpt-2"}).union(*(names for _, names in _PRE))
"""The names that are known to split otherwise than a row of the table does, unless they are in it."""


@dataclass(frozen=True, slots=True)
class TrainedTokenizer:
    """The tokenizer that trained. None means that its files do not say."""

    tokens: Mapping[int, str]
    merges: tuple[str, ...] | None
    special: Mapping[str, int | None]
    add_bos: bool | None
    chat_template: str | None
    pre: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class TokenizerDifference:
    """One field of the GGUF that is not what it has to be; both values as short printable text."""

    what: str
    seen: str
    expected: str


def read_trained(directory: Path) -> TrainedTokenizer:
    """Read a tokenizer's directory. Raises BadInput when a file is missing or is not what Transformers saves."""
    body = read_config(directory / "tokenizer.json", MAX_FILE_BYTES)
    settings = read_config(directory / "tokenizer_config.json", MAX_FILE_BYTES)
    model = body.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(vocabulary, dict | list):
        raise BadInput(f"{directory / 'tokenizer.json'} holds no vocabulary")
    try:
        scored = (
            {row[0]: number for number, row in enumerate(vocabulary)} if isinstance(vocabulary, list) else vocabulary
        )
        tokens = {number: text for text, number in scored.items()}
        tokens |= {entry["id"]: entry["content"] for entry in body.get("added_tokens") or []}
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model.get("merges") or []]
    except (TypeError, KeyError, IndexError) as error:
        raise BadInput(f"{directory / 'tokenizer.json'} is not a tokenizer: {error!r}") from error
    if not tokens or not all(type(number) is int and number >= 0 for number in tokens):
        raise BadInput(f"{directory / 'tokenizer.json'} numbers its tokens otherwise than by whole numbers")
    ids = {text: number for number, text in tokens.items()}
    return TrainedTokenizer(
        tokens=tokens,
        merges=tuple(merges) or None,
        special={name: ids.get(_content(settings.get(f"{name}_token"))) for name in _SPECIAL},
        add_bos=settings["add_bos_token"] if isinstance(settings.get("add_bos_token"), bool) else None,
        chat_template=_template(directory, settings),
        pre=_pre(body.get("pre_tokenizer")),
    )


def self_check(path: Path, header: gguf.Gguf) -> Iterator[TokenizerDifference]:
    """Differences from what any GGUF's tokenizer must be, whatever was trained. Raises GgufError on a damaged array."""
    kind = header.metadata.get("tokenizer.ggml.model")
    if kind in {"no_vocab", "none"}:
        return
    tokens, types = (_array(header, f"tokenizer.ggml.{name}") for name in ("tokens", "token_type"))
    if tokens is None or types is None or tokens.length != types.length:
        counts = " and ".join("none" if array is None else str(array.length) for array in (tokens, types))
        yield TokenizerDifference("tokens and their types", counts, "as many of both")
        return
    yield from _splitting(path, header, str(kind), tokens.length)
    yield from _special_ids(header, str(kind), gguf.read_array(path, types))


def _splitting(path: Path, header: gguf.Gguf, kind: str, count: int) -> Iterator[TokenizerDifference]:
    """Differences from all that a vocabulary of this kind needs beside its tokens to split a text into them."""
    rows = next((tensor.shape[-1] for tensor in header.tensors if tensor.name == "token_embd.weight"), None)
    if rows is not None and rows != count:
        yield TokenizerDifference("tokens", str(count), f"{rows}, the rows of token_embd.weight")
    if kind == _BY_MERGES and not header.metadata.get("tokenizer.ggml.pre"):
        yield TokenizerDifference("tokenizer.ggml.pre", "missing", "the name of the pre-tokenizer")
    if kind == _BY_MERGES and _array(header, "tokenizer.ggml.merges") is None:
        yield TokenizerDifference("tokenizer.ggml.merges", "missing", "the merges of the byte pairs")
    if kind in _SCORED:
        scores = _array(header, "tokenizer.ggml.scores")
        if scores is None or scores.length != count:
            counted = "none" if scores is None else str(scores.length)
            yield TokenizerDifference("tokenizer.ggml.scores", counted, f"{count}, one for each token")
        elif not all(map(isfinite, gguf.read_array(path, scores))):
            yield TokenizerDifference("tokenizer.ggml.scores", "a score that is not finite", "finite scores")


def _special_ids(header: gguf.Gguf, kind: str, types: list[int]) -> Iterator[TokenizerDifference]:
    for name in ("bos", "eos", "padding"):
        key = f"tokenizer.ggml.{name}_token_id"
        number = header.metadata.get(key)
        if number is None:
            if name == "eos" and kind not in _ENDLESS and kind not in _KNOWN_END:
                yield TokenizerDifference(key, "missing", _END)
        elif type(number) is not int or not 0 <= number < len(types):
            yield TokenizerDifference(key, _short(number), f"an id below {len(types)}")
        elif types[number] not in (_OF_PADDING if name == "padding" else _CONTROL_TYPES):
            yield TokenizerDifference(key, f"{number}, a token of type {types[number]}", "the id of a control token")


def remarks(header: gguf.Gguf) -> Iterator[str]:
    """Settings that are no defect by themselves, and explain one when the model never stops or splits words oddly."""
    metadata = header.metadata
    pad, eos = (metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("padding", "eos"))
    if pad is not None and pad == eos:
        yield f"padding is the end of text ({eos}): a training that masks padding never learns to stop"
    if metadata.get("tokenizer.ggml.pre") == "default":
        yield "tokenizer.ggml.pre is 'default': whether words are split as in training is known with --config only"


def unused(path: Path, header: gguf.Gguf) -> frozenset[int]:
    """Ids of tokens that no text has: padding of the vocabulary, and the padding and unknown tokens."""
    types = _array(header, "tokenizer.ggml.token_type")
    kinds = [] if types is None else gguf.read_array(path, types)
    named = (header.metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("padding", "unknown"))
    empty = {number for number, kind in enumerate(kinds) if kind == _UNUSED}
    eos = header.metadata.get("tokenizer.ggml.eos_token_id")
    return frozenset(empty | {number for number in named if isinstance(number, int) and number != eos})


def compare(path: Path, header: gguf.Gguf, trained: TrainedTokenizer) -> Iterator[TokenizerDifference]:
    """Every field that differs from the tokenizer that trained. Raises GgufError on an array that is damaged."""
    metadata = header.metadata
    by_merges = metadata.get("tokenizer.ggml.model") == _BY_MERGES
    yield from _tokens(header, _read(path, header, "tokens"), trained)
    if trained.merges is not None and by_merges:
        merges = _read(path, header, "merges")
        at = _first_difference(merges, trained.merges)
        if at is not None:
            seen, expected = ("".join(map(_short, each[at : at + 1])) or "missing" for each in (merges, trained.merges))
            yield TokenizerDifference("merges", f"number {at} is {seen}", f"number {at} is {expected}")
    kind = str(metadata.get("tokenizer.ggml.model"))
    for word, spelled in _SPECIAL.items():
        stated, wanted = metadata.get(f"tokenizer.ggml.{spelled}_token_id"), trained.special[word]
        if stated is None and word == "eos":
            stated = wanted if kind in _ENDLESS else _KNOWN_END.get(kind)
        if wanted is not None and stated != wanted:
            yield TokenizerDifference(f"{word} id", _short(stated), f"{wanted} ({_short(trained.tokens[wanted])})")
    add_bos = metadata.get("tokenizer.ggml.add_bos_token")
    if trained.add_bos is not None and add_bos is not trained.add_bos:
        yield TokenizerDifference("add_bos_token", _short(add_bos), str(trained.add_bos))
    pre = metadata.get("tokenizer.ggml.pre")
    if trained.pre is not None and by_merges and pre in _OTHERWISE - trained.pre:
        yield TokenizerDifference("pre-tokenizer", _short(pre), " or ".join(sorted(trained.pre)))


def compare_template(header: gguf.Gguf, trained: TrainedTokenizer) -> Iterator[TokenizerDifference]:
    """The chat template, when it differs by more than the line ends that Jinja takes for the same."""
    template = header.metadata.get("tokenizer.chat_template")
    if trained.chat_template is not None and _lines(template) != _lines(trained.chat_template):
        yield _different_text("chat template", _lines(template), str(_lines(trained.chat_template)))


def _lines(template: object) -> object:
    """A template as Jinja reads it: every line end is one line feed, and the last one is left out."""
    if not isinstance(template, str):
        return template
    return template.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")


def _tokens(header: gguf.Gguf, seen: list[str], trained: TrainedTokenizer) -> Iterator[TokenizerDifference]:
    """Every id says what it said in training; ids beyond it are padding up to the model's vocabulary."""
    if max(trained.tokens) >= len(seen):
        yield TokenizerDifference("tokens", str(len(seen)), f"at least {max(trained.tokens) + 1}")
        return
    spelled = _of_words if header.metadata.get("tokenizer.ggml.model") == "bert" else _with_spaces
    wrong = [
        number for number, text in trained.tokens.items() if seen[number] != text and seen[number] != spelled(text)
    ]
    if wrong:
        first = min(wrong)
        stated, wanted = _short(seen[first]), _short(trained.tokens[first])
        yield TokenizerDifference(f"{len(wrong)} tokens", f"id {first} is {stated}", f"id {first} is {wanted}")
    if len(seen) > len(trained.tokens):
        strange = [at for at, text in enumerate(seen) if at not in trained.tokens and not _PADDING.fullmatch(text)]
        if strange:
            stated = _short(seen[strange[0]])
            yield TokenizerDifference("tokens", f"id {strange[0]} is {stated}", "padding: no such id was trained")


def _with_spaces(text: str) -> str:
    """A token as the converter writes added ones: their spaces are such."""
    return text.replace("\u2581", " ")


def _of_words(text: str) -> str:
    """A token of WordPiece, which marks the middle of a word, as llama.cpp has it: it marks the beginning."""
    return text[2:] if text.startswith("##") else "\u2581" + text


def _different_text(what: str, seen: object, expected: str) -> TokenizerDifference:
    if not isinstance(seen, str):
        return TokenizerDifference(what, "missing", f"{len(expected)} characters")
    at = _first_difference(seen, expected) or 0
    around = slice(max(0, at - 20), at + 40)
    return TokenizerDifference(what, f"from character {at}: … {_short(seen[around])}", f"… {_short(expected[around])}")


def _first_difference(seen: Sequence[str], expected: Sequence[str]) -> int | None:
    """Position where two sequences part, or None when they are equal."""
    if len(seen) == len(expected) and all(map(eq, seen, expected)):
        return None
    shorter = min(len(seen), len(expected))
    return next((at for at in range(shorter) if seen[at] != expected[at]), shorter)


def _array(header: gguf.Gguf, key: str) -> gguf.Array | None:
    value = header.metadata.get(key)
    return value if isinstance(value, gguf.Array) else None


def _read(path: Path, header: gguf.Gguf, name: str) -> list[str]:
    array = _array(header, f"tokenizer.ggml.{name}")
    if array is None or array.item_type != "string":
        return []
    return gguf.read_array(path, array)


def _content(token: object) -> str:
    """A special token's text; Transformers writes it bare or as an object."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""


def _template(directory: Path, settings: Mapping[str, Any]) -> str | None:
    """The chat template: a file of its own since Transformers 5, before that a setting, or a list of named ones."""
    file = directory / "chat_template.jinja"
    if file.is_file():
        try:
            return file.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{file} cannot be read: {error}") from error
    stated = settings.get("chat_template")
    if isinstance(stated, list):
        named = {entry.get("name"): entry.get("template") for entry in stated if isinstance(entry, dict)}
        stated = named.get("default")
    return stated if isinstance(stated, str) else None


def _pre(described: object) -> frozenset[str] | None:
    """The names that llama.cpp may have for this way of splitting; None when it is not one that is known here."""
    text = str(described).replace("\\\\", "\\")
    return next((names for sign, names in _PRE if sign in text), None)


def _short(value: object) -> str:
    return "missing" if value is None else printable(repr(value), 80)
