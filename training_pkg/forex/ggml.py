"""ggml's tensor types: how many bytes a row takes, and how float32 rows become those bytes.

Formats from ggml's ggml-common.h; results are byte for byte those of llama.cpp's own converter. The K-quants come
from ggml's own quantiser: xllamacpp's extension module exports ``ggml_quantize_chunk`` (ggml.h).
"""

from __future__ import annotations

import ctypes
import importlib.util
from enum import IntEnum
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

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

MISSING = "the K-quants need ggml's quantiser: pip install xllamacpp, or export Q8_0 or F16"

_BELOW_HALF = 0.49999997
"""The largest float32 below one half: a number just short of k + 1/2 stays below k + 1 with it, not with one half."""


_BLOCKS = {
    Type.F32: (1, 4),
    Type.F16: (1, 2),
    Type.Q8_0: (32, 34),
    Type.Q4_K: (256, 144),
    Type.Q6_K: (256, 210),
}
"""Elements and bytes of a block."""


def row_bytes(kind: Type, columns: int) -> int:
    """Bytes of one row; raises ExportDefect when the row is no whole number of blocks."""
    elements, size = _BLOCKS[kind]
    if columns % elements:
        raise ExportDefect(f"rows of {columns} are no multiple of {elements}, which {kind.name} needs")
    return columns // elements * size


def encode(kind: Type, rows: torch.Tensor) -> Bytes:
    """Float32 rows as the bytes of a type; raises ExportDefect for a K-quant without ggml's library."""
    if kind is Type.F32:
        return rows.contiguous().numpy().view(np.uint8).ravel()
    if kind is Type.F16:
        return rows.to(torch.float16).contiguous().numpy().view(np.uint8).ravel()
    if kind is Type.Q8_0:
        return _q8_0(rows)
    return _k_quant(kind, rows)


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


def library_available() -> bool:
    """True when ggml's quantiser is there."""
    return _library() is not None


def _k_quant(kind: Type, rows: torch.Tensor) -> Bytes:
    """The rows as ggml's quantiser encodes them; it frees the GIL meanwhile."""
    library = _library()
    if library is None:
        raise ExportDefect(MISSING)
    source = rows.contiguous()
    count, columns = source.shape
    out = np.empty(count * row_bytes(kind, columns), dtype=np.uint8)
    written = library.ggml_quantize_chunk(kind, source.data_ptr(), out.ctypes.data, 0, count, columns, None)
    if written != out.nbytes:
        raise ExportDefect(f"ggml wrote {written} bytes where {out.nbytes} belong")
    return out


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    """The extension module, loaded as a plain library; None when there is none."""
    found = importlib.util.find_spec("xllamacpp")
    for folder in found.submodule_search_locations or [] if found else []:
        for path in sorted(Path(folder).glob("*.so")) + sorted(Path(folder).glob("*.pyd")):
            try:
                library = ctypes.CDLL(str(path))
                function = library.ggml_quantize_chunk
            except (OSError, AttributeError):
                continue
            number, pointer = ctypes.c_int64, ctypes.c_void_p
            function.restype = ctypes.c_size_t
            function.argtypes = [ctypes.c_int, pointer, pointer, number, number, number, pointer]
            return library
    return None
