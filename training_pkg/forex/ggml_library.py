"""ggml's own quantiser, where a package that carries it is installed: the K-quants need it.

xllamacpp's extension module exports ``ggml_quantize_chunk`` (ggml.h); its bytes are llama.cpp's own.
"""

from __future__ import annotations

import ctypes
import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from .errors import ExportDefect

MISSING = "the K-quants need ggml's quantiser: pip install xllamacpp, or export Q8_0 or F16"

_FUNCTION = "ggml_quantize_chunk"


def available() -> bool:
    """Whether the quantiser is there."""
    return _library() is not None


def quantize(kind: int, rows: torch.Tensor, row_bytes: int) -> npt.NDArray[np.uint8]:
    """Float32 rows as the bytes of a ggml type; raises ExportDefect without the library. Frees the GIL meanwhile."""
    library = _library()
    if library is None:
        raise ExportDefect(MISSING)
    source = rows.contiguous()
    count, columns = source.shape
    out = np.empty(count * row_bytes, dtype=np.uint8)
    written = library.ggml_quantize_chunk(
        kind, source.data_ptr(), out.ctypes.data_as(ctypes.c_void_p), 0, count, columns, None
    )
    if written != out.nbytes:
        raise ExportDefect(f"ggml wrote {written} bytes where {out.nbytes} belong")
    return out


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    """The extension module, loaded as a plain library."""
    found = importlib.util.find_spec("xllamacpp")
    for folder in found.submodule_search_locations or [] if found else []:
        for path in sorted(Path(folder).glob("*.so")) + sorted(Path(folder).glob("*.pyd")):
            try:
                library = ctypes.CDLL(str(path))
                function = getattr(library, _FUNCTION)
            except (OSError, AttributeError):
                continue
            function.restype = ctypes.c_size_t
            function.argtypes = [
                ctypes.c_int,
                ctypes.c_void_p,
                ctypes.c_void_p,
                ctypes.c_int64,
                ctypes.c_int64,
                ctypes.c_int64,
                ctypes.c_void_p,
            ]
            return library
    return None
