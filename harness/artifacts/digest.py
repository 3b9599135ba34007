"""SHA-256 of a file on the disk, streamed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from harness.core import regular_file
from harness.core.ids import Sha256
from harness.core.reading import readable

_CHUNK = 4 << 20  # bytes; hashlib releases the interpreter lock for each, larger ones gain nothing


@dataclass(frozen=True, slots=True)
class Hashed:
    """A file's size (bytes) and digest, both of the bytes that were read."""

    size: int
    sha256: Sha256


def of_file(path: Path) -> Hashed:
    """Hash a file. Raises BadInput when it cannot be read: no digest is ever made up."""
    with readable(path), regular_file.opened(path) as file:
        return of_open(file)


def of_open(file: FileIO) -> Hashed:
    """Hash an open file from its first byte to its last. Raises OSError."""
    hasher = hashlib.sha256()
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    size = file.seek(0)
    while count := file.readinto(buffer):
        hasher.update(view[:count])
        size += count
    return Hashed(size, Sha256(hasher.hexdigest()))


def of_bytes(data: bytes) -> Sha256:
    """The digest of bytes in memory."""
    return Sha256(hashlib.sha256(data).hexdigest())
