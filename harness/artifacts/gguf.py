"""A strict reader of GGUF v3 headers: what is in a model file, byte for byte, without reading its weights.

Stricter than llama.cpp and gguf-py, which load files that are cut and zero-extended,
carry junk at the end, or state another version: the tensors must lie one behind the
other without gap or overlap, and the file must end where the last of them ends.

The format is https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; block sizes
are those of ggml's type traits, types that are never stored left out. Standard
library only, runs on Python 3.8 and imports nothing of the harness: the source of this
module is also sent to the rented box.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"GGUF"
VERSION = 3
DEFAULT_ALIGNMENT = 32

MAX_HEADER_BYTES = 256 << 20  # the header of a 150,000 token vocabulary takes 6 MB
MAX_STRING_BYTES = 16 << 20
MAX_KEY_BYTES = 65535
MAX_METADATA = 65536
MAX_TENSORS = 65536  # ggml's own limit is lower
MAX_NAME_BYTES = 63  # GGML_MAX_NAME is 64 with its terminating zero
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 1 << 20

# ggml type number -> (name, weights in a block, bytes of a block, how its scales are spelled, where in it each lies).
# A number is its own scale. "iq1_m" is one half-precision number in the upper four bits of four words.
TYPES = {
    0: ("F32", 1, 4, "f32", (0,)),
    1: ("F16", 1, 2, "f16", (0,)),
    2: ("Q4_0", 32, 18, "f16", (0,)),
    3: ("Q4_1", 32, 20, "f16", (0, 2)),
    6: ("Q5_0", 32, 22, "f16", (0,)),
    7: ("Q5_1", 32, 24, "f16", (0, 2)),
    8: ("Q8_0", 32, 34, "f16", (0,)),
    10: ("Q2_K", 256, 84, "f16", (80, 82)),
    11: ("Q3_K", 256, 110, "f16", (108,)),
    12: ("Q4_K", 256, 144, "f16", (0, 2)),
    13: ("Q5_K", 256, 176, "f16", (0, 2)),
    14: ("Q6_K", 256, 210, "f16", (208,)),
    16: ("IQ2_XXS", 256, 66, "f16", (0,)),
    17: ("IQ2_XS", 256, 74, "f16", (0,)),
    18: ("IQ3_XXS", 256, 98, "f16", (0,)),
    19: ("IQ1_S", 256, 50, "f16", (0,)),
    20: ("IQ4_NL", 32, 18, "f16", (0,)),
    21: ("IQ3_S", 256, 110, "f16", (0,)),
    22: ("IQ2_S", 256, 82, "f16", (0,)),
    23: ("IQ4_XS", 256, 136, "f16", (0,)),
    24: ("I8", 1, 1, "", ()),
    25: ("I16", 1, 2, "", ()),
    26: ("I32", 1, 4, "", ()),
    27: ("I64", 1, 8, "", ()),
    28: ("F64", 1, 8, "f64", (0,)),
    29: ("IQ1_M", 256, 56, "iq1_m", (48, 50, 52, 54)),
    30: ("BF16", 1, 2, "bf16", (0,)),
    34: ("TQ1_0", 256, 54, "f16", (52,)),
    35: ("TQ2_0", 256, 66, "f16", (64,)),
    39: ("MXFP4", 32, 17, "e8m0", (0,)),
    40: ("NVFP4", 64, 36, "e4m3", (0, 1, 2, 3)),
    41: ("Q1_0", 128, 18, "f16", (0,)),
    42: ("Q2_0", 64, 18, "f16", (0,)),
}
BLOCKS = {row[0]: row[1:3] for row in TYPES.values()}  # type name -> (weights, bytes) of a block
SCALES = {row[0]: row[3:] for row in TYPES.values()}  # type name -> (spelling, places) of a block's scales

# metadata value type -> (name, struct format); 8 is a string, 9 an array
_SCALARS = {
    0: ("uint8", "<B"),
    1: ("int8", "<b"),
    2: ("uint16", "<H"),
    3: ("int16", "<h"),
    4: ("uint32", "<I"),
    5: ("int32", "<i"),
    6: ("float32", "<f"),
    7: ("bool", "<B"),
    10: ("uint64", "<Q"),
    11: ("int64", "<q"),
    12: ("float64", "<d"),
}
_STRING = 8
_ARRAY = 9
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class GgufError(ValueError):
    """The bytes are not a whole, well-formed GGUF v3 file; ``where`` is the part, ``what`` the defect."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}")
        self.where = where
        self.what = what


class GgufVersionError(GgufError):
    """A GGUF of another version or byte order: nothing is wrong with it, and nothing in it is read."""


class Tensor(NamedTuple):
    """A tensor's entry: ``shape`` as stored (fastest dimension first), ``offset`` in the data section, bytes."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    nbytes: int


class Array(NamedTuple):
    """An array of the metadata that was walked over but not decoded; ``start`` and ``end`` are file positions."""

    item_type: str
    length: int
    start: int
    end: int


class Gguf(NamedTuple):
    """A parsed header. Metadata values are int, float, bool, str or Array. Sizes and positions in bytes."""

    size: int
    alignment: int
    data_start: int
    metadata: dict[str, Any]
    tensors: tuple[Tensor, ...]

    @property
    def data_bytes(self) -> int:
        """The bytes of all tensors, padding left out."""
        return sum(tensor.nbytes for tensor in self.tensors)


def parse(path: str | Path) -> Gguf:
    """Parse a file's header and prove that its layout fills the file exactly.

    Raises GgufError, or OSError when the file cannot be read.
    """
    with Path(path).open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        return parse_stream(file, size)


def parse_stream(file: IO[bytes], size: int) -> Gguf:
    """Parse from a stream that stands at byte 0 of a file of ``size`` bytes. Raises GgufError."""
    reader = _Reader(file, size)
    if reader.take(4, "magic") != MAGIC:
        raise GgufError("magic", "the file does not begin with GGUF")
    version = reader.u32("version")
    if version != VERSION:
        turned = int.from_bytes(version.to_bytes(4, "little"), "big") == VERSION
        what = "the byte order is big-endian" if turned else f"{version}"
        raise GgufVersionError("version", f"{what}, only version {VERSION} in little-endian order is accepted")
    tensor_count = reader.count("tensor count", MAX_TENSORS, 24)
    metadata_count = reader.count("metadata count", MAX_METADATA, 13)
    metadata = _metadata(reader, metadata_count)
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(alignment) is not int or not 1 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise GgufError("general.alignment", f"{alignment!r} is not a power of two")
    tensors, data_bytes = _tensors(reader, tensor_count, alignment)
    data_start = _padded(reader.position, alignment)
    if not tensors and size == reader.position:  # a vocabulary alone is not padded
        data_start = size
    if data_start + data_bytes != size:
        raise GgufError(
            "file size",
            f"the header describes {data_start + data_bytes} bytes, the file has {size}"
            f" ({size - data_start - data_bytes:+d})",
        )
    if any(reader.take(data_start - reader.position, "padding before the data")):
        raise GgufError("padding before the data", "holds bytes other than zero")
    return Gguf(size, alignment, data_start, metadata, tensors)


def read_array(path: str | Path, array: Array) -> list[Any]:
    """Decode an array of the metadata: numbers, booleans or strings. Raises GgufError on text that is not UTF-8."""
    with Path(path).open("rb") as file:
        file.seek(array.start)
        data = file.read(array.end - array.start)
    if len(data) != array.end - array.start:
        raise GgufError("array", "the file became shorter while it was read")
    if array.item_type == "string":
        try:
            return list(_strings(data, array.length))
        except (UnicodeDecodeError, struct.error) as error:
            raise GgufError("array of strings", str(error)) from error
    spelling = dict(_SCALARS.values())[array.item_type][1]
    values = struct.unpack(f"<{array.length}{spelling}", data)
    return [bool(value) for value in values] if array.item_type == "bool" else list(values)


def nbytes(type_name: str, shape: tuple[int, ...]) -> int:
    """The bytes that a tensor takes. Raises GgufError when its rows are not whole blocks."""
    weights, size = BLOCKS[type_name]
    if shape[0] % weights:
        raise GgufError("shape", f"rows of {shape[0]} weights are not whole blocks of {type_name} ({weights})")
    return math.prod(shape) // weights * size


def summary(header: Gguf) -> dict[str, Any]:
    """The header as JSON: scalars, strings cut at 65,536 characters, arrays by type and length, tensors."""
    metadata: dict[str, Any] = {}
    for key, value in header.metadata.items():
        if isinstance(value, Array):
            metadata[key] = {"array": value.item_type, "length": value.length}
        elif isinstance(value, str):
            metadata[key] = value[:65536]
        elif isinstance(value, float) and not -1e308 < value < 1e308:
            metadata[key] = str(value)  # JSON has no NaN and no infinity
        else:
            metadata[key] = value
    return {
        "size": header.size,
        "alignment": header.alignment,
        "data_start": header.data_start,
        "data_bytes": header.data_bytes,
        "metadata": metadata,
        "tensors": [[t.name, list(t.shape), t.type, t.offset, t.nbytes] for t in header.tensors],
    }


class _Reader:
    """The header's bytes, read as they are needed; nothing is taken that the file or the limit does not hold."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file = file
        self.size = size
        self.data = b""
        self.position = 0

    def take(self, length: int, where: str) -> bytes:
        self.ensure(length, where)
        start = self.position
        self.position = start + length
        return self.data[start : self.position]

    def ensure(self, length: int, where: str) -> None:
        end = self.position + length
        if end <= len(self.data):
            return
        if end > self.size:
            raise GgufError(where, f"the file ends at byte {self.size}, {end} are needed")
        if end > MAX_HEADER_BYTES:
            raise GgufError(where, f"the header is larger than {MAX_HEADER_BYTES} bytes")
        more = max(end - len(self.data), 4 << 20, len(self.data))
        self.data += self.file.read(min(more, MAX_HEADER_BYTES - len(self.data)))
        if end > len(self.data):
            raise GgufError(where, "the file became shorter while it was read")

    def u32(self, where: str) -> int:
        return int(_U32.unpack(self.take(4, where))[0])

    def u64(self, where: str) -> int:
        return int(_U64.unpack(self.take(8, where))[0])

    def count(self, where: str, limit: int, smallest: int) -> int:
        """A count of things that each take at least ``smallest`` bytes."""
        count = self.u64(where)
        if count > limit or count * smallest > self.size - self.position:
            raise GgufError(where, f"{count} is more than the file can hold")
        return count

    def text(self, where: str, limit: int) -> str:
        length = self.u64(where)
        if length > limit:
            raise GgufError(where, f"text of {length} bytes, at most {limit} are accepted")
        try:
            return self.take(length, where).decode("utf-8")
        except UnicodeDecodeError as error:
            raise GgufError(where, f"not UTF-8: {error}") from error

    def skip_strings(self, count: int, where: str) -> None:
        """Walk over ``count`` strings; the hot loop of the whole parse (300,000 strings in a usual header)."""
        unpack = _U64.unpack_from
        position, known = self.position, len(self.data)
        for _ in range(count):
            if position + 8 > known:
                self.position = position
                self.ensure(8, where)
                known = len(self.data)
            length = unpack(self.data, position)[0]
            if length > MAX_STRING_BYTES:
                raise GgufError(where, f"text of {length} bytes, at most {MAX_STRING_BYTES} are accepted")
            position += 8 + length
            if position > known:
                self.position = position - length
                self.ensure(length, where)
                known = len(self.data)
        self.position = position


def _metadata(reader: _Reader, count: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for index in range(count):
        key = reader.text(f"metadata key {index}", MAX_KEY_BYTES)
        where = f"metadata {key[:80]!r}"
        if not key:
            raise GgufError(where, "empty key")
        if key in metadata:
            raise GgufError(where, "stated twice")
        metadata[key] = _value(reader, reader.u32(where), where)
    return metadata


def _value(reader: _Reader, code: int, where: str) -> Any:
    if code == _STRING:
        return reader.text(where, MAX_STRING_BYTES)
    if code == _ARRAY:
        return _array(reader, where)
    if code not in _SCALARS:
        raise GgufError(where, f"unknown value type {code}")
    name, spelling = _SCALARS[code]
    value = struct.unpack(spelling, reader.take(struct.calcsize(spelling), where))[0]
    if name == "bool":
        if value > 1:
            raise GgufError(where, f"a boolean of {value}")
        return bool(value)
    return value


def _array(reader: _Reader, where: str) -> Array:
    code = reader.u32(where)
    if code == _STRING:
        count = reader.count(where, MAX_HEADER_BYTES, 8)
        start = reader.position
        reader.skip_strings(count, where)
        return Array("string", count, start, reader.position)
    if code not in _SCALARS:  # arrays of arrays are in the format and in no model
        raise GgufError(where, f"an array of value type {code}")
    name, spelling = _SCALARS[code]
    width = struct.calcsize(spelling)
    count = reader.count(where, MAX_HEADER_BYTES, width)
    start = reader.position
    reader.take(count * width, where)
    return Array(name, count, start, reader.position)


def _tensors(reader: _Reader, count: int, alignment: int) -> tuple[tuple[Tensor, ...], int]:
    """The tensor table, and the bytes of the data section that it describes."""
    tensors: list[Tensor] = []
    names: set[str] = set()
    end = 0
    for index in range(count):
        name = reader.text(f"tensor {index} name", MAX_NAME_BYTES)
        where = f"tensor {name!r}"
        if not name or name in names:
            raise GgufError(where, "stated twice" if name else "empty name")
        names.add(name)
        dimensions = reader.u32(where)
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise GgufError(where, f"{dimensions} dimensions")
        shape = tuple(reader.u64(where) for _ in range(dimensions))
        if not all(0 < length <= 1 << 40 for length in shape):
            raise GgufError(where, f"shape {shape}")
        code = reader.u32(where)
        if code not in TYPES:
            raise GgufError(where, f"unknown type {code}")
        type_name = TYPES[code][0]
        offset = reader.u64(where)
        if offset != end:
            raise GgufError(where, f"begins at data byte {offset}, the tensor before it ends at {end}")
        try:
            size = nbytes(type_name, shape)
        except GgufError as error:
            raise GgufError(where, error.what) from error
        end = _padded(offset + size, alignment)
        if end > reader.size:
            raise GgufError(where, f"ends at data byte {end}, the file has {reader.size} bytes")
        tensors.append(Tensor(name, shape, type_name, offset, size))
    return tuple(tensors), end


def _strings(data: bytes, count: int) -> Iterator[str]:
    position = 0
    for _ in range(count):
        (length,) = _U64.unpack_from(data, position)
        position += 8
        yield data[position : position + length].decode("utf-8")
        position += length


def _padded(position: int, alignment: int) -> int:
    return (position + alignment - 1) // alignment * alignment
