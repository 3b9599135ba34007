"""Events as they are stored: a kind and a JSON object, and back. Pure.

Keys that another version added are read over, and an optional key that an older one lacks has its default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from enum import Enum
from functools import cache
from typing import Any, cast, get_args, get_origin, get_type_hints

from harness.core.canonical import Json
from harness.core.ids import InstanceId
from harness.ledger.chain import Record
from harness.ledger.kinds import KINDS, JobEvent


def encode(event: JobEvent) -> tuple[str, dict[str, Json]]:
    """The kind and the data of an event; a field whose default is None is left out when it is None."""
    values = [(one, getattr(event, one.name)) for one in fields(event)]
    return event.kind, {one.name: _json(value) for one, value in values if value is not None or one.default is not None}


def decode(record: Record) -> JobEvent | None:
    """The event that a record holds; None for a kind that this version does not know.

    Raises ValueError naming the field that is missing, or of another type than its kind has there.
    """
    kind = KINDS.get(record.kind)
    if kind is None:
        return None
    found: dict[str, Any] = {}
    for name, read, usual in _fields(record.kind):
        try:
            found[name] = read(record.data[name]) if name in record.data or usual is MISSING else usual
        except (KeyError, ValueError) as error:
            why = "missing" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"event {record.seq} ({record.kind}): {name} is {why}") from error
    return kind(**found)


@cache
def _fields(name: str) -> tuple[tuple[str, Callable[[Any], Any], Any], ...]:
    """Name, reader and default of each field; one that may be None has that default, for older logs lack some."""
    kind = KINDS[name]
    hints = get_type_hints(kind)
    return tuple(
        (
            one.name,
            _reader(hints[one.name]),
            None if one.default is MISSING and _may_be_none(hints[one.name]) else one.default,
        )
        for one in fields(kind)
    )


def _may_be_none(hint: Any) -> bool:
    return type(None) in get_args(hint)


def _reader(hint: Any) -> Callable[[Any], Any]:
    """Reader of a stored value as a field's type, made once for the thousands of a long log; it raises ValueError."""
    if hint is Any:
        return lambda stored: stored
    if _may_be_none(hint):
        some = _reader(get_args(hint)[0])
        return lambda stored: None if stored is None else some(stored)
    kind, inner = getattr(hint, "__supertype__", get_origin(hint) or hint), get_args(hint)  # a NewType is its base
    if issubclass(kind, Enum):
        return cast("Callable[[Any], Any]", kind)
    each = _reader(inner[0 if kind is tuple else 1] if inner else Any)
    types = {InstanceId: {int, str}, float: {float, int}}.get(hint, {kind})

    def read(stored: Any) -> Any:
        if type(stored) in types:
            return stored
        if kind is tuple and isinstance(stored, list | tuple):
            return tuple(map(each, stored))
        if kind is Mapping and isinstance(stored, Mapping):
            return stored if inner[1] is Any else {key: each(one) for key, one in stored.items()}
        raise ValueError(f"{stored!r:.80}, not {getattr(kind, '__name__', kind)}")

    return read


def _json(value: Any) -> Any:
    match value:
        case Enum():
            return value.value
        case tuple():
            return list(value)
        case Mapping():
            return dict(value)
    return value
