"""The GGUF container: where tensors lie, and the header's bytes. Pure.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3, little-endian, alignment 32.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import ggml

ALIGNMENT = 32
_MAGIC, _VERSION = b"GGUF", 3
_U32, _I32, _F32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor's place: shape as rows and columns are in memory, offset and size in bytes of the data part."""

    name: str
    kind: ggml.Type
    shape: tuple[int, ...]
    offset: int
    size: int


Value = str | bool | int | float | Sequence[str] | Sequence[int]


def layout(tensors: Sequence[tuple[str, ggml.Type, tuple[int, ...]]]) -> tuple[Tensor, ...]:
    """Tensors one after another, each on an aligned offset."""
    placed, offset = [], 0
    for name, kind, shape in tensors:
        size = math.prod(shape[:-1]) * ggml.row_bytes(kind, shape[-1])
        placed.append(Tensor(name, kind, shape, offset, size))
        offset = padded(offset + size)
    return tuple(placed)


def padded(size: int) -> int:
    """The next aligned size."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def data_bytes(tensors: Sequence[Tensor]) -> int:
    """Bytes of the data part."""
    return sum(padded(tensor.size) for tensor in tensors)


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
