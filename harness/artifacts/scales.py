"""Proof that a model's weights are there: every scale finite, no stretch of zeros where weights should be.

A file that was cut and extended with zeros to its right size, a hole that a broken
transfer left, a tensor that was never written, a scale that became NaN: both gguf-py
and llama.cpp load all of them. The scan reads every scale of every block (a block's
scales decide all its weights); 8 GB of Q8_0 take less than a second when the file is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from harness.artifacts import gguf, weights

WINDOW: Final = 8 << 10
"""Zeros are damage when they fill a window of this many bytes, counted from the tensor's beginning, or its end."""

_SLICE: Final = 8 << 20  # bytes at a time: the scales in them fit the processor's cache
_WORKERS: Final = 2  # most of the time is the kernel mapping the file's pages, which goes on beside the arithmetic
_TAIL: Final = 32  # bytes at a tensor's end that must not all be zero: what alignment alone could have cut
_NAMED: Final = 20
_VOCABULARY: Final = frozenset({"token_embd.weight", "output.weight"})
_ZEROS: Final = "zeros where weights should be"
_NOT_FINITE: Final = "a scale that is not finite"

# type -> where the half-precision scales lie in a block (ggml-common.h: block_q8_0 and the like)
_SCALES: Final[dict[str, tuple[int, ...]]] = {
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
}
# type of number -> as an unsigned integer, and the least magnitude that is not finite (all bits of the exponent set)
_NUMBERS: Final = {
    "F64": ("<u8", 0x7FF << 52),
    "F32": ("<u4", 0xFF << 23),
    "F16": ("<u2", 0x1F << 10),
    "BF16": ("<u2", 0xFF << 7),
}


@dataclass(frozen=True, slots=True)
class Damage:
    """Damage of one tensor; ``position`` is a byte in the file, near the first damaged place."""

    tensor: str
    what: str
    position: int

    def __str__(self) -> str:
        """``blk.3.attn_q.weight: zeros where weights should be, near byte 123``."""
        return f"{self.tensor}: {self.what}, near byte {self.position}"


@dataclass(frozen=True, slots=True)
class Scan:
    """Result of a scan: number of blocks read, types it cannot judge, and the damage (first of each kind a tensor)."""

    blocks: int
    unknown_types: tuple[str, ...]
    damage: tuple[Damage, ...]


def scan(path: Path, header: gguf.Gguf, *, zero_rows: bool = False) -> Scan:
    """Look at the weights of a file whose header was parsed.

    ``zero_rows`` accepts zeros in the embeddings and the output matrix: some base models have rows of
    zeros for tokens that were never trained. Biases may be zero when all of them are: a model that was
    built from a configuration has such. Raises BadInput when the file cannot be read.
    """
    data = weights.map_bytes(path)
    damage: list[Damage] = []
    zero_biases: list[Damage] = []
    biases = [tensor.name for tensor in header.tensors if tensor.name.endswith(".bias")]
    judged = [tensor for tensor in header.tensors if tensor.type in _SCALES or tensor.type in _NUMBERS]
    starts = [header.data_start + tensor.offset for tensor in judged]
    with ThreadPoolExecutor(_WORKERS) as pool:
        by_tensor = list(pool.map(lambda tensor, start: list(_judge(data, tensor, start)), judged, starts))
    for tensor, start, found in zip(judged, starts, by_tensor, strict=True):
        if tensor.name in biases and not data[start : start + tensor.nbytes].any():
            zero_biases += found[:1]
        elif tensor.name in _VOCABULARY and zero_rows:
            damage += [defect for defect in found if defect.what != _ZEROS]
        else:
            damage += found
    if len(zero_biases) < len(biases):
        damage += zero_biases
    return Scan(
        blocks=sum(tensor.nbytes // gguf.BLOCKS[tensor.type][1] for tensor in judged),
        unknown_types=tuple(sorted({tensor.type for tensor in header.tensors} - {tensor.type for tensor in judged})),
        damage=tuple(damage[:_NAMED]),
    )


def _judge(data: npt.NDArray[np.uint8], tensor: gguf.Tensor, start: int) -> Iterator[Damage]:
    """The first defect of each kind in one tensor."""
    blocks = data[start : start + tensor.nbytes].view(_layout(tensor.type))
    _, infinite = _NUMBERS.get(tensor.type, _NUMBERS["F16"])
    window = max(1, WINDOW // blocks.itemsize)
    seen: set[str] = set()
    for first, magnitudes in _windows(blocks, window):
        largest = magnitudes.max(axis=1)
        for what, bad in ((_NOT_FINITE, largest >= infinite), (_ZEROS, largest == 0)):
            if what not in seen and bad.any():
                seen.add(what)
                yield Damage(tensor.name, what, start + (first + int(bad.argmax()) * window) * blocks.itemsize)
    tail = blocks[-max(1, _TAIL // blocks.itemsize) :]
    if _ZEROS not in seen and not any(tail[name].any() for name in tail.dtype.names or ()):
        yield Damage(tensor.name, _ZEROS, start + tensor.nbytes - tail.nbytes)


def _layout(type_name: str) -> np.dtype[Any]:
    """A block as numpy sees it: only its scales have names."""
    if type_name in _NUMBERS:
        return np.dtype([("s0", _NUMBERS[type_name][0])])
    offsets = list(_SCALES[type_name])
    names = [f"s{index}" for index in range(len(offsets))]
    size = gguf.BLOCKS[type_name][1]
    return np.dtype({"names": names, "formats": ["<u2"] * len(names), "offsets": offsets, "itemsize": size})


def _windows(blocks: npt.NDArray[Any], window: int) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """The magnitudes of a tensor's scales, slice by slice: a row for each window; the last one may be shorter."""
    step = max(1, _SLICE // blocks.itemsize // window) * window
    for first in range(0, blocks.size, step):
        part = blocks[first : first + step]
        even = part.size // window * window
        for begin, rows in ((0, part[:even].reshape(-1, window)), (even, part[even:].reshape(1, -1))):
            if rows.size:
                yield first + begin, _magnitudes(rows)


def _magnitudes(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The bit patterns without their signs, which order floating-point numbers by size: the largest of several."""
    fields = [rows[name] & (np.iinfo(rows.dtype[name]).max >> 1) for name in rows.dtype.names or ()]
    largest: npt.NDArray[Any] = fields[0] if len(fields) == 1 else np.maximum(*fields)
    return largest
