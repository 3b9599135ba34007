"""On-disk state of one download: an unfinished file and a journal beside it.

``<name>.part`` has the final size from the start. ``<name>.part.journal`` begins with a line that identifies the
file and gains a line a chunk once the chunk's bytes are on the disk. Crash points: after the bytes and before the
line, the chunk is fetched again; after the last line and before the rename, the next fetch finds every chunk,
hashes and renames; after the rename and before the journal is deleted, the next fetch finds the whole file, makes
it read-only and deletes the journal.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from harness.core import durable
from harness.core.errors import LocalDiskFull, TransferFailed, of_this_machine
from harness.core.ports import RemoteFile

LARGEST_CHUNK = 32 << 20
SMALLEST_CHUNK = 1 << 20
SPARE = 64 << 20
"""Bytes left free on the destination's disk beside the file."""


def chunk_size(size: int) -> int:
    """Bytes a chunk: 32 MiB for a model, less for smaller files, so that several connections share the work."""
    chunk = SMALLEST_CHUNK
    while chunk < LARGEST_CHUNK and size > chunk * 32:
        chunk *= 2
    return chunk


class Journal:
    """Unfinished file of one download. ``done`` holds the indexes of the chunks that are on the disk."""

    def __init__(self, remote: RemoteFile, destination: Path) -> None:
        self.remote = remote
        self.destination = destination
        self.part = destination.with_name(destination.name + durable.PART_SUFFIX)
        self.file = destination.with_name(self.part.name + ".journal")
        self.chunk = chunk_size(remote.size)
        self.count = -(-remote.size // self.chunk)
        self.done: set[int] = set()
        self._head = {"bytes": remote.size, "sha256": remote.sha256, "chunk": self.chunk}

    def open(self) -> None:
        """Continue an unfinished download of this very file, else begin anew. Raises LocalDiskFull."""
        known = self._read()
        if (
            known is None
            or known[0] != self._head
            or not self.part.exists()
            or self.part.stat().st_size != self.remote.size
        ):
            self.discard()
            self._make_room()
            durable.write(self.file, json.dumps(self._head).encode() + b"\n")
        else:
            self.done = {index for index in known[1] if 0 <= index < self.count}

    def span(self, index: int) -> tuple[int, int]:
        """Offset and length of a chunk, bytes."""
        start = index * self.chunk
        return start, min(self.chunk, self.remote.size - start)

    def commit(self, indexes: list[int]) -> None:
        """Note chunks that are written, once the disk has their bytes."""
        with self.part.open("r+b") as file:
            durable.flush(file.fileno())
        durable.append(self.file, "".join(f"{index}\n" for index in indexes).encode())
        self.done.update(indexes)

    def forget(self, indexes: list[int]) -> None:
        """Strike chunks that turned out to be wrong, to be fetched again."""
        self.done.difference_update(indexes)
        lines = [json.dumps(self._head), *map(str, sorted(self.done))]
        durable.write(self.file, "\n".join([*lines, ""]).encode())

    def publish(self) -> None:
        """Give the verified file its name. Raises TransferFailed when bytes were added behind its end."""
        if self.part.stat().st_size != self.remote.size:
            raise TransferFailed(f"{self.part} has {self.part.stat().st_size} bytes; recorded are {self.remote.size}")
        durable.publish(self.part, self.destination)
        self.end()

    def end(self) -> None:
        """Make the finished file read-only and delete what its download left."""
        self.destination.chmod(0o444)
        self.discard()

    def discard(self) -> None:
        """Delete everything that was fetched so far."""
        self.done = set()
        self.file.unlink(missing_ok=True)
        durable.remove(self.part)

    def _read(self) -> tuple[dict[str, object], list[int]] | None:
        """First line and chunk indexes; a torn last line or a damaged journal only costs bytes."""
        try:
            lines = self.file.read_text(encoding="ascii").split("\n")
            head = json.loads(lines[0])
        except (OSError, ValueError):
            return None
        return head, [int(line) for line in lines[1:-1] if line.isascii() and line.isdigit()]

    def _make_room(self) -> None:
        self.part.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.part.parent).free
        if free < self.remote.size + SPARE:
            raise LocalDiskFull(
                f"{self.part.parent} has {free} bytes free; {self.remote.path} needs {self.remote.size + SPARE}"
            )
        with self.part.open("wb") as file, disk_errors_translated(self.part):
            file.truncate(self.remote.size)

    def reserve(self, file: FileIO) -> None:
        """Reserve the disk space, on Linux: a full disk is seen before the first byte is written.

        Nothing else may write meanwhile: where the file system cannot reserve, the C library writes to every block.
        """
        if sys.platform == "linux" and self.remote.size:
            try:
                os.posix_fallocate(file.fileno(), 0, self.remote.size)
            except OSError as error:
                if error.errno not in {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}:
                    raise


@contextlib.contextmanager
def disk_errors_translated(path: Path) -> Iterator[None]:
    """Raise LocalDiskFull or TransferFailed in place of the operating system's errors."""
    try:
        yield
    except OSError as error:
        raise of_this_machine(error, str(path), TransferFailed) from error
