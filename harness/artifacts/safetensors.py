"""A strict reader of safetensors files: the header, and of the numbers what can be told from their bytes.

The format is https://github.com/huggingface/safetensors#format: eight bytes of header
length, a JSON object of tensors, then their data without holes. Standard library only,
runs on Python 3.8 and imports nothing of the harness, as ``gguf`` does.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

INDEX = "model.safetensors.index.json"
"""Where a model in several files says which tensor lies in which."""

SINGLE = "model.safetensors"
"""A model in one file."""

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
    "F8_E8M0": 1,
    "F8_E4M3FNUZ": 1,
    "F8_E5M2FNUZ": 1,
    "C64": 8,
}  # bytes of one element

MOST = 131072
"""No weight is as large: float16 cannot hold it. From here on the top byte of a number tells."""

_ODD = {
    "F64": re.compile(rb"[\x41-\x7f\xc1-\xff]"),
    "F32": re.compile(rb"[\x48-\x7f\xc8-\xff]"),
    "BF16": re.compile(rb"[\x48-\x7f\xc8-\xff]"),
    "F16": re.compile(rb"[\x7c-\x7f\xfc-\xff]"),
    "F8_E5M2": re.compile(rb"[\x7c-\x7f\xfc-\xff]"),
    "F8_E4M3": re.compile(rb"[\x7f\xff]"),
}
"""Top bytes of numbers that are NaN, infinite, or of ``MOST`` and more, by type. Numbers lie with the top byte last."""

FLOATS = frozenset(_ODD)
"""Types that a weight can have."""

_PIECE = 8 << 20  # bytes read at a time, a multiple of every width
_HOLE = bytes(512)


class SafetensorsError(ValueError):
    """The bytes are not a whole, well-formed safetensors file."""


class TensorEntry(NamedTuple):
    """One tensor: its element type, shape, and where its bytes lie in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def parse(path: str | os.PathLike[str]) -> tuple[TensorEntry, ...]:
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


class Values(NamedTuple):
    """Properties of a tensor's numbers: NaN or absurd ones among them, none but zeros, a run of 512 bytes of zeros."""

    odd: bool
    zero: bool
    hole: bool


def scan(path: str | os.PathLike[str]) -> Iterator[tuple[TensorEntry, Values]]:
    """Every tensor with what its bytes tell, read once from beginning to end. Raises as ``parse`` does."""
    with open(path, "rb") as file:  # noqa: PTH123 - programs of the box share os.path
        for entry in parse(path):
            odd, zero, hole = False, True, False
            file.seek(entry.start)
            left = entry.end - entry.start
            while left:
                piece = file.read(min(_PIECE, left))
                if not piece:
                    raise SafetensorsError("the file became shorter while it was read")
                left -= len(piece)
                width, pattern = WIDTHS[entry.dtype], _ODD.get(entry.dtype)
                odd = odd or bool(pattern and pattern.search(piece[width - 1 :: width]))
                zero = zero and not piece.translate(None, b"\x00\x80")  # a lone sign bit is a zero, too
                hole = hole or _HOLE in piece
            yield entry, Values(odd, zero, hole)


def problem(path: str | os.PathLike[str]) -> str | None:
    """Why a file is not whole, or holds nothing; None when it is. Raises OSError when it cannot be read."""
    try:
        return None if parse(path) else "holds no tensor"
    except SafetensorsError as error:
        return f"does not parse: {error}"


def index_problem(folder: str | os.PathLike[str]) -> str | None:
    """Why a model in several files is not whole: each must lie in the folder, with the tensors the index has in it."""
    with open(os.path.join(folder, INDEX), "rb") as file:  # noqa: PTH118, PTH123 - as above
        raw = file.read(MAX_HEADER_BYTES)
    try:
        where = json.loads(raw.decode("utf-8"))["weight_map"].items()
        if not where or any(os.path.basename(name) != name for _, name in where):  # noqa: PTH119 - as above
            return "names no file, or one of another folder"
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        return f"does not parse: {type(error).__name__} {error}"
    for name in sorted({shard for _, shard in where}):
        try:
            held = {entry.name for entry in parse(os.path.join(folder, name))}  # noqa: PTH118 - as above
        except FileNotFoundError:
            return f"names {name[:80]}, which is missing"
        except SafetensorsError as error:
            return f"names {name[:80]}, which does not parse: {error}"
        if held != {tensor for tensor, shard in where if shard == name}:
            return f"names {name[:80]}, which holds other tensors"
    return None


def folder_problem(folder: str | os.PathLike[str], names: Sequence[str]) -> str | None:
    """Why these files of a folder are not one model, or one adapter: each whole, and every one named by the index.

    Raises OSError for a file that cannot be read.
    """
    for name in names:
        told = problem(os.path.join(folder, name))  # noqa: PTH118 - as above
        if told:
            return f"{name[:80]} {told}"
    if not os.path.isfile(os.path.join(folder, INDEX)):  # noqa: PTH113, PTH118 - as above
        return None if len(names) == 1 else f"{INDEX} is missing, {len(names)} files of tensors lie there"
    told = index_problem(folder)
    if told:
        return f"{INDEX} {told}"
    with open(os.path.join(folder, INDEX), encoding="utf-8") as file:  # noqa: PTH118, PTH123 - as above
        strange = sorted(set(names) - set(json.load(file)["weight_map"].values()))
    return f"{INDEX} does not name {strange[0][:80]}: it may be another run's" if strange else None


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
