"""Reads a written GGUF back and compares it with what it should hold, before it gets its name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from . import ggml, gguf_file
from .errors import ExportDefect
from .merged import Rows

_ERROR_OF_SCALE = {ggml.Type.F32: 0.0, ggml.Type.F16: 2.0**-11, ggml.Type.Q8_0: 0.6 / 127}
"""The largest error of a value, as a share of the largest magnitude in its block (Q8_0) or of itself."""


def verify(path: Path, head: bytes, tensors: Sequence[gguf_file.Tensor], rows: Rows) -> None:
    """Raise ExportDefect unless size, header, scales and sampled rows are those of the merged model."""
    size, expected = path.stat().st_size, len(head) + gguf_file.data_bytes(tensors)
    if size != expected:
        raise ExportDefect(f"{path} has {size} bytes, its tensors end at {expected}")
    with path.open("rb") as file:
        if file.read(len(head)) != head:
            raise ExportDefect(f"{path}: the header read back is not the one that was written")
    data = np.memmap(path, dtype=np.uint8, mode="r", offset=len(head))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for _ in pool.map(lambda tensor: _check_tensor(tensor, data, rows), tensors):
            pass


def _check_tensor(tensor: gguf_file.Tensor, data: ggml.Bytes, rows: Rows) -> None:
    """Raise unless every scale is right, and the first, the last and the rows in the middle are the merged model's."""
    columns = tensor.shape[-1] if len(tensor.shape) > 1 else 1
    row = ggml.row_bytes(tensor.kind, columns)
    spans = list(rows.blocks(tensor))
    sampled = {spans[0], spans[len(spans) // 2], spans[-1]}
    for start, stop in spans:
        piece = data[tensor.offset + start * row : tensor.offset + stop * row]
        if _has_zeros(tensor, piece, stop - start) or (start, stop) in sampled:
            _check_rows(tensor, np.array(piece), rows.read(tensor, start, stop), start)


def _check_rows(tensor: gguf_file.Tensor, piece: ggml.Bytes, rows: torch.Tensor, start: int) -> None:
    """Raise unless the piece holds these merged rows; ``start`` is the number of the first."""
    if tensor.kind not in _ERROR_OF_SCALE:  # a K-quant is not decoded here: encoding again must give the same bytes
        if not np.array_equal(piece, ggml.encode(tensor.kind, rows)):
            raise ExportDefect(f"{tensor.name}, rows from {start}: the file does not hold the merged model")
        return
    columns = tensor.shape[-1] if len(tensor.shape) > 1 else 1
    found = ggml.decode(tensor.kind, piece, columns).ravel()
    wanted = rows.numpy().ravel()
    block = 32 if tensor.kind is ggml.Type.Q8_0 else 1
    scale = np.repeat(np.abs(wanted).reshape(-1, block).max(axis=1), block)
    # The smallest float16 steps bound what no share does.
    allowed = _ERROR_OF_SCALE[tensor.kind] * scale + (127 * 2.0**-25 if tensor.kind is not ggml.Type.F32 else 0.0)
    wrong = np.flatnonzero(~(np.abs(found - wanted) <= allowed))
    if len(wrong):
        at = int(wrong[0])
        raise ExportDefect(
            f"{tensor.name}, row {start + at // columns}: the file says {found[at]:.6g}, "
            f"the merged model {wanted[at]:.6g}"
        )


def _has_zeros(tensor: gguf_file.Tensor, piece: ggml.Bytes, count: int) -> bool:
    """True when there are suspicious zeros; raises unless every scale (every value, where there are none) is finite.

    A zero scale is right only where the merged model is zero; without scales, so is a row of nothing but zeros.
    """
    scales = _scales(tensor.kind, piece)
    if not np.isfinite(scales).all():
        raise ExportDefect(f"{tensor.name} holds a value that is not a finite number")
    if tensor.kind in {ggml.Type.F32, ggml.Type.F16}:
        return not scales.reshape(count, -1).any(axis=1).all()
    return not scales.all()


def _scales(kind: ggml.Type, piece: ggml.Bytes) -> npt.NDArray[np.floating[Any]]:
    """The first two bytes of a Q8_0 block, the first four of Q4_K, the last two of Q6_K; else the values."""
    if kind is ggml.Type.F32:
        return piece.view(np.float32)
    if kind is ggml.Type.F16:
        return piece.view(np.float16)
    blocks = piece.reshape(-1, ggml.row_bytes(kind, 32 if kind is ggml.Type.Q8_0 else 256))
    found = {ggml.Type.Q8_0: blocks[:, :2], ggml.Type.Q4_K: blocks[:, :4], ggml.Type.Q6_K: blocks[:, -2:]}[kind]
    return found.copy().view(np.float16)
