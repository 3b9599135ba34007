"""Proof that a model's weights are there: every scale finite, no stretch of zeros where weights should be.

A file that was cut and extended with zeros to its right size, a hole that a broken
transfer left, a tensor that was never written, a scale that became NaN: both gguf-py
and llama.cpp load all of them. The scan reads every scale of every block (a block's
scales decide all its weights; where they lie is in ``gguf.TYPES``); 8 GB of Q8_0 take
less than a second when the file is in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from harness.artifacts import gguf
from harness.core.errors import BadInput

WINDOW: Final = 8 << 10
"""Scales that are all zero are damage when they fill a window of this many bytes, counted from the tensor's beginning
or its end."""
PAGE: Final = 4 << 10
"""Bytes that are all zero are damage when they fill a page of the file: what a lost write leaves is whole pages."""

_SLICE: Final = 8 << 20  # bytes at a time: the scales in them fit the processor's cache
_WORKERS: Final = 2  # most of the time is the kernel mapping the file's pages, which goes on beside the arithmetic
_TAIL: Final = 32  # bytes at a tensor's end that must not all be zero: what alignment alone could have cut
_NAMED: Final = 20
_VOCABULARY: Final = frozenset({"token_embd.weight", "output.weight", "model.embed_tokens.weight", "lm_head.weight"})
_ZEROS: Final = "zeros where weights should be"
_NOT_FINITE: Final = "a scale that is not finite"

# spelling -> as an unsigned integer, the bits of its magnitude, and the least magnitude that is not finite
_NUMBERS: Final = {
    "f64": ("<u8", (1 << 63) - 1, 0x7FF << 52),
    "f32": ("<u4", (1 << 31) - 1, 0xFF << 23),
    "f16": ("<u2", (1 << 15) - 1, 0x1F << 10),
    "bf16": ("<u2", (1 << 15) - 1, 0xFF << 7),
    "iq1_m": ("<u2", (1 << 15) - 1, 0x1F << 10),
    "e8m0": ("<u1", 0xFF, 0xFF),
    "e4m3": ("<u1", 0x7F, 0x7F),
}

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Damage:
    """Damage of one tensor; ``position`` is a byte in the file, near the first damaged place."""

    tensor: str
    what: str
    position: int

    @property
    def is_row(self) -> bool:
        """True of zeros in the vocabulary, which may be rows of tokens that were never trained."""
        return self.what == _ZEROS and self.tensor in _VOCABULARY

    def __str__(self) -> str:
        """``blk.3.attn_q.weight: zeros where weights should be, near byte 123``."""
        return f"{self.tensor}: {self.what}, near byte {self.position}"


@dataclass(frozen=True, slots=True)
class Scan:
    """Result of a scan: number of blocks read, types it cannot judge, and the damage (first of each kind a tensor)."""

    blocks: int
    unknown_types: tuple[str, ...]
    damage: tuple[Damage, ...]


def scan(
    path: Path, header: gguf.Gguf, *, zero_rows: bool = False, unused: Callable[[], frozenset[int]] = frozenset
) -> Scan:
    """Look at the weights of a file whose header was parsed; ``look`` says what the rest means.

    Raises BadInput when the file cannot be read.
    """
    if not header.tensors:
        return Scan(0, (), ())
    return look(map_bytes(path), header.data_start, header.tensors, zero_rows=zero_rows, unused=unused)


def look(
    data: Bytes,
    data_start: int,
    tensors: Sequence[gguf.Tensor],
    *,
    zero_rows: bool = False,
    unused: Callable[[], frozenset[int]] = frozenset,
) -> Scan:
    """Look at tensors that lie in a file's bytes.

    ``zero_rows`` accepts zeros in the embeddings and the output matrix: some base models have rows of zeros for
    tokens that were never trained. ``unused`` tells the rows of tokens that no text has, asked only when there are
    zeros. Biases may be zero when all of them are: a model that was built from a configuration has such.
    """
    damage: list[Damage] = []
    zero_biases: list[Damage] = []
    biases = [tensor.name for tensor in tensors if tensor.name.endswith(".bias")]
    judged = [tensor for tensor in tensors if gguf.SCALES[tensor.type][0]]
    starts = [data_start + tensor.offset for tensor in judged]
    with ThreadPoolExecutor(_WORKERS) as pool:
        by_tensor = list(pool.map(lambda tensor, start: list(_judge(data, tensor, start)), judged, starts))
    for tensor, start, found in zip(judged, starts, by_tensor, strict=True):
        if tensor.name in biases and not data[start : start + tensor.nbytes].any():
            zero_biases += found[:1]
        elif tensor.name in _VOCABULARY and any(defect.what == _ZEROS for defect in found):
            rest = list(_judge(data, tensor, start, unused()))
            damage += [defect for defect in rest if defect.what != _ZEROS or not zero_rows]
        else:
            damage += found
    if len(zero_biases) < len(biases):
        damage += zero_biases
    return Scan(
        blocks=sum(tensor.nbytes // gguf.BLOCKS[tensor.type][1] for tensor in judged),
        unknown_types=tuple(sorted({tensor.type for tensor in tensors if not gguf.SCALES[tensor.type][0]})),
        damage=tuple(damage[:_NAMED]),
    )


def _judge(data: Bytes, tensor: gguf.Tensor, start: int, unused: frozenset[int] = frozenset()) -> Iterator[Damage]:
    """The first defect of each kind in one tensor; zeros in rows that are unused are none."""
    spelling, _ = gguf.SCALES[tensor.type]
    blocks = data[start : start + tensor.nbytes].view(_layout(tensor.type))
    infinite = _NUMBERS[spelling][2]
    window = WINDOW // blocks.itemsize
    every = PAGE // blocks.itemsize - 1  # one scale of each lies wholly in any page
    row = tensor.nbytes * tensor.shape[0] // max(1, math.prod(tensor.shape))
    seen: set[str] = set()
    for first, magnitudes in _windows(blocks, window, spelling):
        largest = magnitudes.max(axis=1)
        wide = window * blocks.itemsize
        bad = {_NOT_FINITE: np.flatnonzero(largest >= infinite), _ZEROS: np.flatnonzero(largest == 0)}
        places = {what: start + first * blocks.itemsize + at * wide for what, at in bad.items() if at.size}
        if _ZEROS in places:
            places[_ZEROS] = _used(places[_ZEROS], wide, start, row, unused)
        if _ZEROS not in seen and not magnitudes[:, ::every].all():
            thin = np.flatnonzero(magnitudes[:, ::every].reshape(-1) == 0)
            columns = -(-magnitudes.shape[1] // every)
            at = start + (first + thin // columns * window + thin % columns * every) * blocks.itemsize
            pages = _zero_pages(data, np.unique(at // PAGE), start, start + tensor.nbytes)
            if pages.size:
                places.setdefault(_ZEROS, _used(pages, PAGE, start, row, unused))
        for what, found in places.items():
            if what not in seen and found.size:
                seen.add(what)
                yield Damage(tensor.name, what, int(found[0]))
    tail = blocks[-max(1, _TAIL // blocks.itemsize) :]
    if _ZEROS not in seen and not any(tail[name].any() for name in tail.dtype.names or ()):
        last = np.array([start + tensor.nbytes - tail.nbytes])
        if _used(last, tail.nbytes, start, row, unused).size:
            yield Damage(tensor.name, _ZEROS, int(last[0]))


def _zero_pages(data: Bytes, pages: Positions, start: int, end: int) -> Positions:
    """Positions of those pages that lie within a tensor and hold nothing but zeros."""
    inside = pages[(pages * PAGE >= start) & ((pages + 1) * PAGE <= end)]
    whole = data[: data.size // PAGE * PAGE].reshape(-1, PAGE)
    return inside[~whole[inside].any(axis=1)] * PAGE


def _used(positions: Positions, length: int, start: int, row: int, unused: frozenset[int]) -> Positions:
    """Those stretches of ``length`` bytes that do not lie in rows that are unused."""
    if not unused:
        return positions
    ends = zip((positions - start) // row, (positions - start + length - 1) // row, strict=True)
    return positions[[not unused.issuperset(range(int(first), int(last) + 1)) for first, last in ends]]


def map_bytes(path: Path) -> Bytes:
    """A whole file as bytes, mapped read-only. Raises BadInput when it cannot be read or is empty."""
    try:
        return np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error


def _layout(type_name: str) -> np.dtype[Any]:
    """A block as numpy sees it: only its scales have names."""
    spelling, offsets = gguf.SCALES[type_name]
    return np.dtype(
        {
            "names": [f"s{index}" for index in range(len(offsets))],
            "formats": [_NUMBERS[spelling][0]] * len(offsets),
            "offsets": list(offsets),
            "itemsize": gguf.BLOCKS[type_name][1],
        }
    )


def _windows(blocks: npt.NDArray[Any], window: int, spelling: str) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """The magnitudes of a tensor's scales, slice by slice: a row for each window; the last one may be shorter."""
    step = _SLICE // blocks.itemsize // window * window
    for first in range(0, blocks.size, step):
        part = blocks[first : first + step]
        even = part.size // window * window
        for begin, rows in ((0, part[:even].reshape(-1, window)), (even, part[even:].reshape(1, -1))):
            if rows.size:
                yield first + begin, _magnitudes(rows, spelling)


def _magnitudes(rows: npt.NDArray[Any], spelling: str) -> npt.NDArray[Any]:
    """The bit patterns without their signs, which order floating-point numbers by size: the largest of several."""
    bits = _NUMBERS[spelling][1]
    fields = [rows[name] for name in rows.dtype.names or ()]
    if spelling == "iq1_m":
        fields = [fields[0] >> 12 | fields[1] >> 8 & 0xF0 | fields[2] >> 4 & 0xF00 | fields[3] & 0xF000]
    largest: npt.NDArray[Any] = fields[0] & bits
    for other in fields[1:]:
        largest = np.maximum(largest, other & bits)
    return largest
