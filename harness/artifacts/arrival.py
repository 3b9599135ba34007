"""The place where a file is to arrive; it, or another of its name, may be there already. Nothing is overwritten."""

from __future__ import annotations

from pathlib import Path

from harness.artifacts import digest
from harness.core.ids import Sha256, new_nonce


def is_here(path: Path, sha256: Sha256) -> bool:
    """True when the very file is in its place, whoever brought it; a link to it is not the file. Raises OSError."""
    return path.is_file() and not path.is_symlink() and digest.of_file(path).sha256 == sha256


def make_way(path: Path) -> Path | None:
    """Put aside whatever has this name, under a name of its own, which is returned; None when nothing has it."""
    if not path.exists() and not path.is_symlink():
        return None
    aside = path.with_name(f"{path.name}.rejected-{new_nonce()}")
    path.rename(aside)
    return aside
