"""Weights read from a file as they lie there, mapped and not copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from harness.core.errors import BadInput

FLOATS: Final[dict[str, np.dtype[Any]]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}


def map_bytes(path: Path) -> npt.NDArray[np.uint8]:
    """A whole file as bytes, mapped read-only. Raises BadInput when it cannot be read or is empty."""
    try:
        return np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error


def floats(data: npt.NDArray[np.uint8], type_name: str) -> npt.NDArray[Any]:
    """Bytes as floating-point numbers; BF16, which numpy lacks, becomes float32."""
    values: npt.NDArray[Any] = data.view(FLOATS[type_name])
    if type_name == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values
