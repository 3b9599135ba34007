"""Byte ranges of one file on the box, written to where they belong in the local file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import HostUnreachable, RemoteChanged, TransferFailed
from harness.core.ports import RemoteFile
from harness.remote.ssh.pipe import CommandPipe
from harness.remote.transfer.journal import disk_errors_translated

READ = 1 << 20
"""Bytes asked of the network at once: 1 MiB is a third faster than 32 KiB with paramiko."""

HEADER_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Range:
    """Span of a file, bytes."""

    offset: int
    length: int


class RangeStream:
    """Asks for ranges of a file and writes them, in that order, into the local file.

    The pipe's command serves ranges (``harness.remote.box.ranges``); the pipe is closed with the stream.
    """

    def __init__(self, pipe: CommandPipe, remote: RemoteFile, part: Path) -> None:
        self._pipe = pipe
        self._remote = remote
        try:
            with disk_errors_translated(part):
                self._file = part.open("r+b", buffering=0)
        except BaseException:
            pipe.close()
            raise

    def ask(self, wanted: Range) -> None:
        """Request a range; several may be under way. Raises HostUnreachable."""
        self._pipe.write(b"%d %d\n" % (wanted.offset, wanted.length))

    def receive(self, wanted: Range, arrived: Callable[[int], None]) -> str:
        """Write the range that was asked for first; return the identity of the file that its bytes are of.

        ``arrived`` is told every count of bytes that is written, also of a range that is cut. Raises
        RemoteChanged when the file is another now, HostUnreachable when the stream ends early.
        """
        identity = self._identity(self._pipe.read_line(HEADER_LIMIT), wanted)
        self._file.seek(wanted.offset)
        left = wanted.length
        while left:
            data = self._pipe.read(min(left, READ))
            if not data:
                raise HostUnreachable(f"the stream of {self._remote.path} ended early")
            left -= len(data)
            view = memoryview(data)
            while view:
                written = self._file.write(view)
                arrived(written)
                view = view[written:]
        return identity

    def interrupt(self) -> None:
        """Cut it from another thread; a waiting ``receive`` ends with HostUnreachable."""
        self._pipe.close()

    def close(self) -> None:
        """End it and release everything."""
        self._file.close()
        self._pipe.close()

    def _identity(self, header: bytes, wanted: Range) -> str:
        """The identity that an answer to a request names. Raises RemoteChanged, TransferFailed."""
        remote = self._remote
        words = header[:HEADER_LIMIT].decode("utf-8", "replace").split()
        if words[:1] == ["changed"]:
            raise RemoteChanged(f"{remote.path} was changed on the box while it was fetched")
        if words[:1] == ["problem"]:
            raise TransferFailed(f"the box cannot read {remote.path}: {' '.join(words[1:])[:300]!r}")
        if words[:3] != ["ok", str(wanted.offset), str(wanted.length)] or len(words) != 4:
            raise TransferFailed(f"the box answers oddly for {remote.path}: {header[:100]!r}")
        if words[3].split(":")[0] != str(remote.size):
            raise RemoteChanged(f"{remote.path} on the box no longer has the {remote.size} bytes that were recorded")
        return words[3]
