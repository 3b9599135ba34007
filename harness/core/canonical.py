"""JSON in one spelling, so that equal values have equal digests; and a stranger's JSON, read with limits. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.core.ids import Sha256

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
"""A value as the ``json`` module parses it."""


def canonical(value: Json | Mapping[str, Json] | Sequence[Json]) -> bytes:
    """ASCII JSON with sorted keys and no spaces; floats as Python's shortest round-trip form.

    Raises ValueError on what JSON cannot say and give back unchanged: NaN, infinities,
    keys that are not strings, values of other types.
    """
    _require_json(value, 0)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain).encode("ascii")


def digest(value: Json | Mapping[str, Json] | Sequence[Json]) -> Sha256:
    """The SHA-256 of the canonical form."""
    return Sha256(hashlib.sha256(canonical(value)).hexdigest())


def parse(data: str | bytes) -> Any:
    """A stranger's JSON. Raises ValueError on what is none, and on what ``require_recordable`` refuses."""
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise ValueError(f"nested deeper than {_DEEPEST} levels") from error
    require_recordable(value)
    return value


def table(value: object) -> dict[str, Any]:
    """A stranger's parsed value as the JSON object that it should be; empty for anything else."""
    return value if isinstance(value, dict) else {}


def require_recordable(value: object) -> None:
    """Raise ValueError when a parsed value cannot be written down and read again: too deep, or text that is none."""
    _require_json(value, 0)
    for text in _texts(value):
        if not text.isascii():
            text.encode()  # a lone surrogate raises UnicodeEncodeError, a ValueError


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


_DEEPEST = 64


def _require_json(value: object, depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError(f"nested deeper than {_DEEPEST} levels")
    inside: Iterable[object] = ()
    if isinstance(value, dict | Mapping):  # a dict is told at once, other mappings by their abstract class
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"a key that is not a string: {key!r:.80}")  # noqa: TRY004 - one error for all
        inside = value.values()
    elif isinstance(value, list | tuple):
        inside = value
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError(f"not a JSON value: {type(value).__name__}")
    for one in inside:
        if type(one) not in _SCALARS or depth == _DEEPEST:  # a look at each would be most of the time
            _require_json(one, depth + 1)


_SCALARS = frozenset({str, int, float, bool, type(None)})


def _plain(value: object) -> dict[str, Json]:
    if isinstance(value, Mapping):  # a read-only mapping: json knows dict only
        return dict(value)
    raise TypeError(f"not a JSON value: {type(value).__name__}")
