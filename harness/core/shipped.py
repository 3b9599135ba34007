"""Folders that travel with the harness: ``checks``, ``examples``, ``training_pkg``.

In a clone they stand beside the package, at the top of the repository; installed, they lie inside it. The
search path of the package ``harness`` knows which, so that ``harness.checks`` is the same folder by import.
"""

from __future__ import annotations

from pathlib import Path

import harness


def folder(name: str) -> Path:
    """Directory of that name as it came with this harness; where a clone would have it when it is missing."""
    places = [Path(root).resolve() / name for root in harness.__path__]
    return next((place for place in places if place.is_dir()), places[-1])
