"""Lines of a JSON Lines file as values: strict, and in bulk where nothing stands out."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from pydantic_core import from_json

from harness.core.reading import readable, require_size

MAX_FILE_BYTES: Final = 4 << 30
_CHUNK_BYTES: Final = 1 << 16

# Three times as fast as the json module. It refuses more (halves of characters, deep nesting), and of two values
# under one name it keeps the last: see ``value``.
quickly: Final = partial(from_json, allow_inf_nan=False, cache_strings="keys")


def count(path: Path) -> int:
    """Lines of a file that are not blank: its rows, as far as nobody has read them."""
    with path.open("rb") as lines:
        return sum(1 for line in lines if line.strip())


def chunks(path: Path) -> Iterator[list[bytes]]:
    """The lines of a file with their line feeds, some hundred at a time. Raises BadInput when it cannot be read."""
    with readable(path):
        require_size(path, MAX_FILE_BYTES)
        with path.open("rb") as file:
            yield from iter(lambda: file.readlines(_CHUNK_BYTES), [])


def value(line: bytes) -> Any:
    """The JSON value of a line; raises ValueError with the reason, as for a name that stands in an object twice."""
    try:
        return json.loads(line.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_once_each)
    except UnicodeDecodeError as error:
        raise ValueError(_why_no_json(line) or f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise ValueError(_why_no_json(line) or f"not JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _why_no_json(line: bytes) -> str:
    """Reason that the parser's own message does not tell; empty when it does."""
    if not line.strip():
        return "an empty line"
    if line.startswith(codecs.BOM_UTF8):
        return "it begins with a byte order mark: save the file as UTF-8 without one"
    if b"\0" in line:
        return "it holds zero bytes, as UTF-16 does: save the file as UTF-8"
    if line.strip() in (b"[", b"{"):
        return "a value over several lines: write each object on a line of its own (JSON Lines)"
    return ""


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a value")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in row if names.count(name) > 1)!r} stands there twice")
    return row
