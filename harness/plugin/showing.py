"""Facts in a few words, for the evidence beside a verdict. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum

_MANY = 6
_TEXT = 160


def brief(value: object, depth: int = 0) -> str:
    """A value as one short line: dataclasses by their set fields, long sequences by their length and ends."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields({field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, depth)
    if isinstance(value, Mapping):
        return _fields({str(key): one for key, one in value.items()}, depth)
    if isinstance(value, tuple | list | set | frozenset):
        return _sequence(list(value), depth)
    return _scalar(value, depth)


def _scalar(value: object, depth: int) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= _TEXT or depth == 0 else text[:_TEXT] + "…"


def _fields(fields: Mapping[str, object], depth: int) -> str:
    told = [f"{name}={brief(one, depth + 1)}" for name, one in fields.items() if one not in (None, "", (), {}, [])]
    text = " ".join(told)
    return text if depth == 0 else f"({text})"


def _sequence(items: list[object], depth: int) -> str:
    if not items:
        return "none"
    if len(items) > _MANY:
        return f"{len(items)}: {brief(items[0], depth + 1)} … {brief(items[-1], depth + 1)}"
    return ", ".join(brief(one, depth + 1) for one in items)
