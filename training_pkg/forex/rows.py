"""Reads the data files: every line parses and fits a schema, or the run stops at that file and line.

Turns of all accepted shapes become the same two values: what the user says, and what the
assistant answers (its reasoning inside ``<think>...</think>`` when there is any).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from . import template
from .errors import DataDefect

LINE_LIMIT = 1 << 20
"""Bytes a line may have; a longer one is no training example."""


@dataclass(frozen=True, slots=True)
class Example:
    """A turn to learn. ``system`` is empty when there is none; ``pair`` and ``date`` when the row names none."""

    prompt: str
    completion: str
    system: str = ""
    pair: str = ""
    date: str = ""


@dataclass(frozen=True, slots=True)
class Preference:
    """A prompt with the answer to prefer and the one to avoid."""

    prompt: str
    chosen: str
    rejected: str
    system: str = ""
    date: str = ""


R = TypeVar("R", Example, Preference)


@dataclass(frozen=True, slots=True)
class DataFile(Generic[R]):
    """A data file as it was read: its rows, and the digest of the very bytes they came from."""

    path: Path
    rows: tuple[R, ...]
    sha256: str
    built: int = 0
    """Rows that a program made: each names it in ``built_by``."""


def read_examples(path: Path) -> DataFile[Example]:
    """An SFT file; raises DataDefect with the file and the line."""
    return _read(path, _example)


def read_preferences(path: Path) -> DataFile[Preference]:
    """A DPO file; raises DataDefect with the file and the line."""
    return _read(path, _preference)


def _read(path: Path, parse: Callable[[dict[str, Any]], R]) -> DataFile[R]:
    digest = hashlib.sha256()
    rows: list[R] = []
    built = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(LINE_LIMIT + 1), b""), start=1):
                digest.update(line)
                try:
                    row = _object(line)
                    rows.append(parse(row))
                except ValueError as error:
                    raise DataDefect(f"{path}, line {number}: {error}; mend the line, none is skipped") from error
                built += "built_by" in row
    except OSError as error:
        remedy = f"put the file there, or move {path.parent} away to have the data built"
        raise DataDefect(f"cannot read {path}: {error.strerror}; {remedy}") from error
    if not rows:
        raise DataDefect(f"{path} holds no rows")
    return DataFile(path, tuple(rows), digest.hexdigest(), built)


def _object(line: bytes) -> dict[str, Any]:
    if len(line) > LINE_LIMIT:
        raise ValueError(f"longer than {LINE_LIMIT} bytes")
    try:
        value = json.loads(line.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_once_each)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__} where an object belongs")  # noqa: TRY004 - a defect of data
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a value")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of two values under one name, JSON's readers keep the last in silence."""
    row: dict[str, Any] = {}
    for name, value in pairs:
        if name in row:
            raise ValueError(f"{name!r} stands there twice")
        row[name] = value
    return row


def _example(row: dict[str, Any]) -> Example:
    system = _optional(row, "system")
    if "messages" in row:
        system, prompt, completion = _conversation(row["messages"])
    elif "instruction" in row:
        extra = _optional(row, "input")
        prompt = _text(row, "instruction") + (f"\n\n{extra}" if extra else "")
        completion = _text(row, "output")
    else:
        prompt, completion = _text(row, "prompt"), _text(row, "completion")
    return Example(prompt, _answer(completion), system, _optional(row, "pair"), _optional(row, "date"))


def _preference(row: dict[str, Any]) -> Preference:
    prompt, chosen, rejected = (_text(row, name) for name in ("prompt", "chosen", "rejected"))
    if template.completion_text(chosen) == template.completion_text(rejected):
        raise ValueError("'chosen' equals 'rejected'")
    return Preference(prompt, _answer(chosen), _answer(rejected), _optional(row, "system"), _optional(row, "date"))


def _answer(text: str) -> str:
    """An assistant's turn, whose reasoning stands before its answer and comes to an end."""
    before, opened, _ = text.partition(template.THINK)
    if opened and before.strip():
        raise ValueError(f"the answer has text before {template.THINK}")
    if text.rfind(template.THINK) > text.rfind(template.END_THINK):
        raise ValueError(f"the answer opens {template.THINK} and never closes it")
    if not text.rpartition(template.END_THINK)[2].strip():
        raise ValueError(f"nothing stands after {template.END_THINK}: the answer is missing")
    return text


def _conversation(messages: Any) -> tuple[str, str, str]:
    """One exchange: an optional system turn, one user turn, one assistant turn."""
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise ValueError("'messages' is not a list of objects")
    roles = [message.get("role") for message in messages]
    if roles not in (["user", "assistant"], ["system", "user", "assistant"]):
        raise ValueError(f"'messages' has the roles {roles!r}; one user and one assistant turn are learned")
    texts = [_text(message, "content") for message in messages]
    return texts[0] if len(texts) == 3 else "", texts[-2], texts[-1]


def _text(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name!r} is {'missing' if value is None else 'not a text'}")  # noqa: TRY004 - a defect of data
    if not value.strip():
        raise ValueError(f"{name!r} is empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name!r} holds half of a surrogate pair, which is no character") from error
    if any(mark in value for mark in template.TURN_MARKS):
        raise ValueError(f"{name!r} holds a mark of the turn format and would fake a turn")
    return value


def _optional(row: dict[str, Any], name: str) -> str:
    return "" if row.get(name) in (None, "") else _text(row, name)
