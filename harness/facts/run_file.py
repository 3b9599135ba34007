"""A run's account of itself, ``run.json``, in a folder of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from harness.core.canonical import table

NAME: Final = "run.json"
MAX_BYTES: Final = 1 << 20


def read(folder: Path) -> dict[str, Any]:
    """Content of a folder's ``run.json``; empty when there is none that can be read."""
    path = folder / NAME
    try:
        return table(json.loads(path.read_bytes())) if path.stat().st_size <= MAX_BYTES else {}
    except (OSError, ValueError, RecursionError):
        return {}
