"""A strict reader of safetensors headers, without reading the tensors.

The format is https://github.com/huggingface/safetensors#format: eight bytes of header
length, a JSON object of tensors, then their data without holes. Standard library only,
runs on Python 3.8 and imports nothing of the harness, as ``gguf`` does.
"""

from __future__ import annotations

import json
import math
import struct
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

MAX_HEADER_BYTES = 100_000_000  # the limit of the reference implementation
WIDTHS = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U64": 8,
    "U32": 4,
    "U16": 2,
    "U8": 1,
    "BOOL": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
}  # bytes of one element


class SafetensorsError(ValueError):
    """The bytes are not a whole, well-formed safetensors file."""


class TensorEntry(NamedTuple):
    """One tensor: its element type, shape, and where its bytes lie in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def parse(path: str | Path) -> tuple[TensorEntry, ...]:
    """Parse the header and prove that the tensors fill the file exactly; in the order of their data.

    Raises SafetensorsError, or OSError when the file cannot be read.
    """
    with Path(path).open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        lead = file.read(8)
        if len(lead) < 8:
            raise SafetensorsError(f"a file of {size} bytes has no header")
        (length,) = struct.unpack("<Q", lead)
        if length > min(MAX_HEADER_BYTES, size - 8):
            raise SafetensorsError(f"a header of {length} bytes in a file of {size}")
        raw = file.read(length)
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise SafetensorsError(f"the header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise SafetensorsError("the header is not an object")
    header.pop("__metadata__", None)
    entries = sorted((_entry(name, row, 8 + length) for name, row in header.items()), key=attrgetter("start", "end"))
    position = 8 + length
    for entry in entries:
        if entry.start != position:
            raise SafetensorsError(f"{entry.name!r} begins at byte {entry.start}, expected {position}")
        position = entry.end
    if position != size:
        raise SafetensorsError(f"the tensors end at byte {position}, the file has {size}")
    return tuple(entries)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is stated twice")
    return found


def _entry(name: str, row: Any, data_start: int) -> TensorEntry:
    try:
        dtype, shape, (start, end) = row["dtype"], row["shape"], row["data_offsets"]
        numbers = [*shape, start, end]
    except (TypeError, KeyError, ValueError) as error:
        raise SafetensorsError(f"{name[:80]!r}: not a tensor entry") from error
    if (
        not isinstance(dtype, str)
        or dtype not in WIDTHS
        or any(type(number) is not int or number < 0 for number in numbers)
    ):
        raise SafetensorsError(f"{name[:80]!r}: unknown type {str(dtype)[:20]!r}, or a length that is none")
    size = WIDTHS[dtype] * math.prod(shape)
    if end - start != size:
        raise SafetensorsError(f"{name[:80]!r}: {end - start} bytes for {dtype} {shape}, expected {size}")
    return TensorEntry(name, dtype, tuple(shape), data_start + start, data_start + end)
