"""The place where an artifact is to arrive; it, or another of its name, may be there already. Nothing is overwritten.

A folder arrives under another name beside its place, and gets its own by one rename, when every file of it is there.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.artifacts import digest, parts
from harness.artifacts.parts import Artifact
from harness.core import durable
from harness.core.ids import Sha256, new_nonce


def is_here(path: Path, sha256: Sha256) -> bool:
    """True when the very file is in its place, whoever brought it; a link to it is not the file. Raises OSError."""
    return path.is_file() and not path.is_symlink() and digest.of_file(path).sha256 == sha256


def make_way(path: Path, folder: Path | None = None) -> Path | None:
    """Put aside whatever has this name, under a name of its own, which is returned; None when nothing has it.

    It stays beside its place, or goes to another ``folder``.
    """
    if not path.exists() and not path.is_symlink():
        return None
    aside = (folder or path.parent) / f"{path.name}.rejected-{new_nonce()}"
    path.rename(aside)
    return aside


def incoming(folder: Path) -> Path:
    """The folder in which another's files gather until all of them are there."""
    return folder.with_name(f"{folder.name}{_INCOMING}")


def publish(arriving: Path, folder: Path, artifact: Artifact) -> None:
    """Give a folder its name, that nothing has: the commit point. What is not of the artifact does not come along."""
    for path in set(parts.listed(arriving)) - {part.path for part in artifact.files}:
        durable.remove(arriving / path)
    durable.publish(arriving, folder)


def unfinished(place: Path) -> tuple[Path, ...]:
    """Everything that an unfinished arrival has left beside a place."""
    gathering = incoming(place)
    return (*durable.unfinished(place), *([gathering] if gathering.exists() else []))


def sweep(place: Path) -> None:
    """Delete what is left beside a finished artifact of its arrival, as far as no living process holds it."""
    durable.sweep(place)
    if (gathering := incoming(place)).is_dir():
        for path in parts.listed(gathering):
            durable.remove(gathering / path)
        shutil.rmtree(gathering)


_INCOMING = ".incoming"
