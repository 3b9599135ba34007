"""Files that a person named, read on this machine: what the operating system refuses is said with the path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.core.errors import BadInput


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raises BadInput naming ``path`` for the OSError that reading it raises."""
    try:
        yield
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error


def require_size(path: Path, most: int) -> None:
    """Raise BadInput for a file of more than ``most`` bytes, OSError for one that is not there."""
    if path.stat().st_size > most:
        raise BadInput(f"{path} is larger than {most} bytes")


def whole(path: Path, most: int) -> bytes:
    """Every byte of a file. Raises BadInput when it is larger than ``most`` bytes or cannot be read."""
    with readable(path):
        require_size(path, most)
        return path.read_bytes()
