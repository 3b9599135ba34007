"""A clone of the harness beside the one that judges: the same checks are one set, others are refused in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.gates import plan


def checks_of(place: Path) -> Path | None:
    """Folder ``checks`` of the clone that a path lies in, unless it is the one that is judged from."""
    real = place.resolve()
    for folder in (real, *real.parents):
        if (folder / "harness" / "gates" / "plan.py").is_file() and (folder / "checks").is_dir():
            return folder / "checks" if folder / "checks" != plan.FOLDER else None
    return None


def as_ours(place: Path, stages: Sequence[str]) -> Path:
    """Path in our folder for one that leads to a clone's, the rest unchanged. Raises UsageError when these differ."""
    theirs = checks_of(place)
    if theirs is None or not (place.is_relative_to(theirs) or theirs.is_relative_to(place)):
        return place
    files = [path.relative_to(plan.FOLDER) for stage in stages for path in sorted((plan.FOLDER / stage).glob("*.py"))]
    other = [file.as_posix() for file in files if _text(theirs / file) != _text(plan.FOLDER / file)]
    if other:
        raise pytest.UsageError(
            f"{theirs} is a clone of the harness, and its checks are not those of the harness that is running, in "
            f"{plan.FOLDER}: {', '.join(other)}\n"
            f"  next: install the clone (python -m pip install -e {theirs.parent}), or judge by the installed checks "
            "alone: pytest --pyargs harness.checks --stage=STAGE"
        )
    return plan.FOLDER / place.relative_to(theirs) if place.is_relative_to(theirs) else plan.FOLDER


def _text(path: Path) -> bytes | None:
    """A file's text, whatever ends its lines: git may have checked it out for Windows."""
    return path.read_bytes().replace(b"\r\n", b"\n") if path.is_file() else None
