"""The GGUF container: header bytes from values, and a strict parser that reads them back. Pure but for reading.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3, little-endian, alignment 32.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from . import ggml
from .errors import ExportDefect

ALIGNMENT = 32
_MAGIC, _VERSION = b"GGUF", 3
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_U32, _I32, _F32, _BOOL = 4, 5, 6, 7
_HEADER_LIMIT = 1 << 30


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor's place: shape as rows and columns are in memory, offset and size in bytes of the data part."""

    name: str
    kind: ggml.Type
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a file's header says: metadata, tensors in order, and where the data part begins (bytes)."""

    metadata: Mapping[str, Any]
    tensors: tuple[Tensor, ...]
    data_start: int


Value = str | bool | int | float | Sequence[str] | Sequence[int]


def layout(tensors: Sequence[tuple[str, ggml.Type, tuple[int, ...]]]) -> tuple[Tensor, ...]:
    """Tensors one after another, each on an aligned offset."""
    placed, offset = [], 0
    for name, kind, shape in tensors:
        rows = 1
        for length in shape[:-1]:
            rows *= length
        size = rows * ggml.row_bytes(kind, shape[-1])
        placed.append(Tensor(name, kind, shape, offset, size))
        offset = padded(offset + size)
    return tuple(placed)


def padded(size: int) -> int:
    """The next aligned size."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def header(metadata: Mapping[str, Value], tensors: Sequence[Tensor]) -> bytes:
    """Everything before the data part, padded to where it begins."""
    parts = [_MAGIC, struct.pack("<IQQ", _VERSION, len(tensors), len(metadata))]
    for key, value in metadata.items():
        parts += [_text(key), _typed(value)]
    for tensor in tensors:
        parts += [
            _text(tensor.name),
            struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *reversed(tensor.shape)),
            struct.pack("<IQ", tensor.kind, tensor.offset),
        ]
    data = b"".join(parts)
    return data.ljust(padded(len(data)), b"\0")


def parse(path: Path) -> Parsed:
    """Read a header strictly: every offset contiguous, the file exactly as long as its tensors; else ExportDefect."""
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            parsed = _parse(_Reader(file, min(size, _HEADER_LIMIT)))
        except (struct.error, UnicodeDecodeError, ValueError, KeyError) as error:
            raise ExportDefect(f"{path}: {error}") from error
    last = parsed.tensors[-1] if parsed.tensors else None
    expected = parsed.data_start + (padded(last.offset + last.size) if last else 0)
    if size != expected:
        raise ExportDefect(f"{path} has {size} bytes, its tensors end at {expected}")
    return parsed


def _text(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _typed(value: Value) -> bytes:
    """A value with its type; whole numbers are written as unsigned 32 bits, lists of numbers as signed ones."""
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _text(value)
    if isinstance(value, bool):
        return struct.pack("<I?", _BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", _U32, value)
    if isinstance(value, float):
        return struct.pack("<If", _F32, value)
    if value and isinstance(value[0], str):
        return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(_text(str(item)) for item in value)
    return struct.pack(f"<IIQ{len(value)}i", _ARRAY, _I32, len(value), *value)


class _Reader:
    """Reads a header's parts; never past the limit."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file, self._limit = file, limit

    def take(self, count: int) -> bytes:
        if count > self._limit - self._file.tell():
            raise ValueError("the header is longer than the file")
        return self._file.read(count)

    def one(self, code: str) -> Any:
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def text(self) -> str:
        return self.take(self.one("<Q")).decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            inner, count = self.one("<I"), self.one("<Q")
            if inner in _SCALARS:
                code = _SCALARS[inner]
                return list(struct.unpack(f"<{count}{code[1]}", self.take(count * struct.calcsize(code))))
            if inner != _STRING or count > self._limit:
                raise ValueError(f"an array of type {inner}")
            return [self.text() for _ in range(count)]
        return self.one(_SCALARS[kind])

    def tell(self) -> int:
        return self._file.tell()


def _parse(reader: _Reader) -> Parsed:
    if reader.take(4) != _MAGIC:
        raise ValueError("it does not begin with GGUF")
    if (version := reader.one("<I")) != _VERSION:
        raise ValueError(f"its version is {version}")
    tensor_count, key_count = reader.one("<Q"), reader.one("<Q")
    metadata: dict[str, Any] = {}
    for _ in range(key_count):
        key = reader.text()
        if key in metadata:
            raise ValueError(f"the key {key!r} stands twice")
        metadata[key] = reader.value(reader.one("<I"))
    described = []
    for _ in range(tensor_count):
        name, dimensions = reader.text(), reader.one("<I")
        if not 1 <= dimensions <= 4:
            raise ValueError(f"{name!r} has {dimensions} dimensions")
        shape = tuple(reversed([reader.one("<Q") for _ in range(dimensions)]))
        described.append((name, ggml.Type(reader.one("<I")), shape, reader.one("<Q")))
    tensors = layout([(name, kind, shape) for name, kind, shape, _ in described])
    for tensor, (_, _, _, offset) in zip(tensors, described, strict=True):
        if tensor.offset != offset:
            raise ValueError(f"{tensor.name!r} is at offset {offset}, {tensor.offset} is contiguous")
    return Parsed(metadata, tensors, padded(reader.tell()))
