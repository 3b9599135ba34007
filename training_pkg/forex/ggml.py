"""ggml's tensor types: how many bytes a row takes, and how float32 rows become those bytes.

Formats from ggml's ggml-common.h; results are byte for byte those of llama.cpp's own converter.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import torch

from . import ggml_library
from .errors import ExportDefect

Bytes = npt.NDArray[np.uint8]


class Type(IntEnum):
    """The numbers of ggml's types (ggml.h, enum ggml_type)."""

    F32 = 0
    F16 = 1
    Q8_0 = 8
    Q4_K = 12
    Q6_K = 14


LIBRARY_KINDS = frozenset({Type.Q4_K, Type.Q6_K})
"""Types that only ggml's own quantiser writes."""

_BELOW_HALF = 0.49999997
"""The largest float32 below one half: a number just short of k + 1/2 stays below k + 1 with it, not with one half."""


@dataclass(frozen=True, slots=True)
class _Block:
    elements: int
    size: int


_BLOCKS = {
    Type.F32: _Block(1, 4),
    Type.F16: _Block(1, 2),
    Type.Q8_0: _Block(32, 34),
    Type.Q4_K: _Block(256, 144),
    Type.Q6_K: _Block(256, 210),
}


def row_bytes(kind: Type, columns: int) -> int:
    """Bytes of one row; raises ExportDefect when the row is no whole number of blocks."""
    block = _BLOCKS[kind]
    if columns % block.elements:
        raise ExportDefect(f"rows of {columns} are no multiple of {block.elements}, which {kind.name} needs")
    return columns // block.elements * block.size


def encode(kind: Type, rows: torch.Tensor) -> Bytes:
    """Float32 rows as the bytes of a type."""
    if kind is Type.F32:
        return rows.contiguous().numpy().view(np.uint8).ravel()
    if kind is Type.F16:
        return rows.to(torch.float16).contiguous().numpy().view(np.uint8).ravel()
    if kind is Type.Q8_0:
        return _q8_0(rows)
    return ggml_library.quantize(kind, rows, row_bytes(kind, rows.shape[-1]))


def decode(kind: Type, data: Bytes, columns: int) -> npt.NDArray[np.float32]:
    """The values that a runtime reads from the bytes of F32, F16 or Q8_0, as rows."""
    if kind is Type.F32:
        values = data.view(np.float32)
    elif kind is Type.F16:
        values = data.view(np.float16).astype(np.float32)
    elif kind is Type.Q8_0:
        blocks = data.reshape(-1, 34)
        scales = blocks[:, :2].copy().view(np.float16).astype(np.float32)
        values = blocks[:, 2:].view(np.int8) * scales
    else:
        raise ExportDefect(f"{kind.name} is not decoded here")
    return values.reshape(-1, columns)


def _q8_0(rows: torch.Tensor) -> Bytes:
    """32 values a block: a float16 scale (the largest magnitude / 127), then the rounded multiples of it.

    As ggml's quantize_row_q8_0_ref: the multiples come from the float32 scale's inverse, halves round away from zero.
    """
    blocks = rows.reshape(-1, 32)
    scale = blocks.abs().amax(dim=1, keepdim=True).div_(127)
    inverse = scale.reciprocal()
    inverse.masked_fill_(inverse.isinf(), 0)  # a block of zeros, or so near to it that float16 has no scale for it
    values = blocks * inverse
    # The conversion to int8 drops the fraction; adding the float below one half makes that a rounding.
    values.add_(values.sign().mul_(_BELOW_HALF))
    out = np.empty((len(blocks), 34), dtype=np.uint8)
    out.view(np.uint16)[:, 0] = scale.to(torch.float16).numpy().view(np.uint16).ravel()
    out[:, 2:] = values.to(torch.int8).numpy().view(np.uint8)
    return out.ravel()
