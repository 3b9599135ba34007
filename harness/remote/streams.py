"""A stream of byte ranges of one file on the box, over whatever carries it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from paramiko import Channel
from paramiko.ssh_exception import SSHException

from harness.errors import HostUnreachable, RemoteChanged, TransferFailed
from harness.remote.ssh import Connection, describe

READ = 1 << 20
"""Bytes asked of the network at once: 1 MiB is a third faster than 32 KiB with paramiko."""

OPEN_TIMEOUT_S = 30.0
HEADER_LIMIT = 1000
NO_SUCH_PROGRAM = 127
"""The exit status of a POSIX shell that finds no such command."""


class Pipe(Protocol):
    """The two ends of a command that runs on the box."""

    @property
    def carrier(self) -> str:
        """What carries it: ``paramiko`` or ``ssh``."""

    def write(self, data: bytes) -> None:
        """Send all of it. Raises HostUnreachable."""

    def read(self, limit: int) -> bytes:
        """Some bytes, at least one, at most ``limit``; none at the end. Raises HostUnreachable."""

    def status(self) -> int | None:
        """The command's exit status, if it is known."""

    def interrupt(self) -> None:
        """End the command; for other threads than the reading one, whose ``read`` ends."""

    def close(self) -> None:
        """End the command and release everything."""


class ParamikoPipe:
    """A command on a connection: its own one, unless it is ``shared`` and outlives the pipe.

    ``silence`` is how many seconds a read or write may take; none where somebody else counts the bytes.
    """

    carrier = "paramiko"

    def __init__(
        self, connection: Connection, command: str, *, shared: bool = False, silence: float | None = None
    ) -> None:
        self._connection = connection
        self._shared = shared
        try:
            self._channel: Channel = connection.session()
            connection.start(self._channel, command, OPEN_TIMEOUT_S)
        except BaseException:
            if not shared:
                connection.close()
            raise
        self._channel.settimeout(silence)

    def write(self, data: bytes) -> None:
        """Send all of it."""
        try:
            self._channel.sendall(data)
        except (SSHException, OSError, EOFError) as error:
            raise HostUnreachable(f"the connection was cut: {describe(error)}") from error

    def read(self, limit: int) -> bytes:
        """Some bytes; none at the end."""
        try:
            return self._channel.recv(limit)
        except (SSHException, OSError, EOFError) as error:
            raise HostUnreachable(f"the connection was cut: {describe(error)}") from error

    def status(self) -> int | None:
        """The command's exit status; None when it runs, or when the connection ended first."""
        self._channel.status_event.wait(1.0)
        return self._channel.exit_status if self._channel.exit_status >= 0 else None

    def interrupt(self) -> None:
        """End the command."""
        self.close()

    def close(self) -> None:
        """End the command, and the connection unless others use it."""
        if not self._shared:
            self._connection.close()
        with contextlib.suppress(SSHException, OSError, EOFError):  # a dead connection cannot be told
            self._channel.close()


@dataclass(frozen=True, slots=True)
class Range:
    """A span of the file, bytes."""

    offset: int
    length: int


class RangeStream:
    """Asks for ranges and receives them in that order."""

    def __init__(self, pipe: Pipe, path: str, size: int) -> None:
        self._pipe = pipe
        self._path = path
        self._size = size
        self._rest = b""
        self._answered = False
        self.carrier = pipe.carrier

    def ask(self, wanted: Range) -> None:
        """Request a range; several may be under way."""
        self._pipe.write(b"%d %d\n" % (wanted.offset, wanted.length))

    def receive(self, wanted: Range, sink: Callable[[bytes], None]) -> str:
        """Give the bytes of the range that was asked for first to ``sink``; the identity of the file they are of.

        Raises RemoteChanged when the file is another now, HostUnreachable when the stream ends early.
        """
        identity = self._header(wanted)
        left = wanted.length
        while left:
            data = self._rest[:left] or self._pipe.read(min(left, READ))
            self._rest = self._rest[len(data) :] if self._rest else b""
            if not data:
                raise HostUnreachable(f"the stream of {self._path} ended early")
            left -= len(data)
            sink(data)
        return identity

    def interrupt(self) -> None:
        """End it from another thread; a waiting ``receive`` ends with HostUnreachable."""
        self._pipe.interrupt()

    def close(self) -> None:
        """End it."""
        self._pipe.close()

    def _header(self, wanted: Range) -> str:
        while b"\n" not in self._rest:
            data = self._pipe.read(HEADER_LIMIT)
            if not data:
                self._explain_end()
            self._rest += data
            if len(self._rest) > 2 * HEADER_LIMIT:
                raise TransferFailed(f"the box answers oddly for {self._path}: {self._rest[:100]!r}")
        self._answered = True
        line, _, self._rest = self._rest.partition(b"\n")
        words = line[:HEADER_LIMIT].decode("utf-8", "replace").split()
        if words[:1] == ["changed"]:
            raise RemoteChanged(f"{self._path} was changed on the box while it was fetched")
        if words[:1] == ["problem"]:
            raise TransferFailed(f"the box cannot read {self._path}: {' '.join(words[1:])[:300]!r}")
        if words[:3] != ["ok", str(wanted.offset), str(wanted.length)] or len(words) != 4:
            raise TransferFailed(f"the box answers oddly for {self._path}: {line[:100]!r}")
        if words[3].split(":")[0] != str(self._size):
            raise RemoteChanged(f"{self._path} on the box no longer has the {self._size} bytes that were recorded")
        return words[3]

    def _explain_end(self) -> None:
        if not self._answered and self._pipe.status() == NO_SUCH_PROGRAM:
            raise TransferFailed(
                "the box has no python3 to read the file with", remedy="Install python3 on the box; it costs nothing."
            )
        raise HostUnreachable(f"the stream of {self._path} ended before its answer")
