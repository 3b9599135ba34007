"""A stream of byte ranges of one file on the box, over whatever carries it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from paramiko import Channel
from paramiko.ssh_exception import SSHException

from harness.core.errors import HostUnreachable, RemoteChanged, TransferFailed
from harness.core.ports import RemoteFile
from harness.remote.probe.posix_fallback import NO_SUCH_PROGRAM
from harness.remote.ssh import channel_buffer
from harness.remote.ssh.connection import Connection, describe
from harness.remote.transfer.journal import no_room_told

READ = 1 << 20
"""Bytes asked of the network at once: 1 MiB is a third faster than 32 KiB with paramiko."""

OPEN_TIMEOUT_S = 30.0
HEADER_LIMIT = 1000
CHATTER_LIMIT = 64 << 10
"""Bytes that a login shell may print before the program that was asked for begins."""


class Pipe(Protocol):
    """The two ends of a command that runs on the box."""

    def write(self, data: bytes) -> None:
        """Send all of it. Raises HostUnreachable, TransferFailed when nobody will ever read it."""

    def read(self, limit: int) -> bytes:
        """Some bytes, at least one, at most ``limit``; none at the end. Raises HostUnreachable."""

    def interrupt(self) -> None:
        """End the command; for other threads than the reading one, whose ``read`` ends."""

    def close(self) -> None:
        """End the command and release everything."""


class ParamikoPipe:
    """A command on a connection: its own one, unless it is ``shared`` and outlives the pipe.

    ``mark``: what is read begins behind that line. ``silence`` is how many seconds a read or write may take; none
    where somebody else counts the bytes.
    """

    def __init__(
        self,
        connection: Connection,
        command: str,
        *,
        mark: str = "",
        shared: bool = False,
        silence: float | None = None,
    ) -> None:
        self._connection = connection
        self._shared = shared
        self._mark = f"\n{mark}\n".encode() if mark else b""
        self._silence = silence
        try:
            self._channel: Channel = connection.session()
            channel_buffer.collect(self._channel)
            connection.start(self._channel, command, OPEN_TIMEOUT_S)
        except BaseException:
            if not shared:
                connection.close()
            raise
        self._channel.settimeout(silence)

    def write(self, data: bytes) -> None:
        """Send all of it."""
        self._require_program(0.0)
        try:
            self._channel.sendall(data)
        except (SSHException, OSError, EOFError) as error:
            self._require_program()
            raise HostUnreachable(f"the connection was cut: {describe(error)}") from error

    def read(self, limit: int) -> bytes:
        """Some bytes; none at the end. Raises TransferFailed when the command does not begin with its mark."""
        try:
            return self._channel.recv(limit) if not self._mark else self._begun(limit)
        except (SSHException, OSError, EOFError) as error:
            raise HostUnreachable(f"the connection was cut: {describe(error)}") from error

    def interrupt(self) -> None:
        """End the command."""
        self.close()

    def close(self) -> None:
        """End the command, and the connection unless others use it."""
        if not self._shared:
            self._connection.close()
        with contextlib.suppress(SSHException, OSError, EOFError):  # a dead connection cannot be told
            self._channel.close()

    def _begun(self, limit: int) -> bytes:
        """The first bytes behind the mark."""
        chatter, data = b"", b""
        with contextlib.nullcontext() if self._silence is None else self._connection.ended_after(self._silence):
            while self._mark and (data := self._channel.recv(limit)):
                chatter += data
                _, found, data = chatter.partition(self._mark)
                if found:
                    self._mark = b""
                elif len(chatter) > CHATTER_LIMIT:
                    raise TransferFailed("the box answers oddly, with more than it may before the program begins")
        if self._mark:
            self._require_program()
        return data or self._channel.recv(limit)

    def _require_program(self, patience: float = 1.0) -> None:
        """Raise TransferFailed when the command ended, within ``patience`` seconds, as there is no such program."""
        self._channel.status_event.wait(patience)
        if self._channel.exit_status == NO_SUCH_PROGRAM:
            raise TransferFailed("the box has no python3", remedy="Install python3 on the box; it costs nothing.")


@dataclass(frozen=True, slots=True)
class Range:
    """A span of the file, bytes."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.length


class Stream(Protocol):
    """Asks for ranges of a file and has them written, in that order, to where they belong in the local file."""

    def fits(self, wanted: Range) -> bool:
        """Whether the range can be asked for behind those that were."""

    def ask(self, wanted: Range) -> None:
        """Request a range; several may be under way. Raises HostUnreachable."""

    def receive(self, wanted: Range, arrived: Callable[[int], None]) -> str:
        """Have the range that was asked for first written; the identity of the file that its bytes are of.

        ``arrived`` hears of every count of bytes that are written, also of a range that is cut. Raises
        RemoteChanged when the file is another now, HostUnreachable when the stream ends early.
        """

    def settle(self) -> None:
        """Everything that was asked for is here: nothing is written any more when this returns."""

    def interrupt(self) -> None:
        """End it from another thread; a waiting ``receive`` ends with HostUnreachable."""

    def close(self) -> None:
        """End it."""


class PipeStream:
    """A stream that is read here and written to the unfinished file from here. Takes the pipe over."""

    def __init__(self, pipe: Pipe, remote: RemoteFile, part: Path) -> None:
        self._pipe = pipe
        self._remote = remote
        try:
            with no_room_told(part):
                self._file = part.open("r+b", buffering=0)
        except BaseException:
            pipe.close()
            raise
        self._rest = b""

    def fits(self, wanted: Range) -> bool:
        """Any range."""
        return wanted.length >= 0

    def ask(self, wanted: Range) -> None:
        """Request a range."""
        self._pipe.write(request(wanted))

    def receive(self, wanted: Range, arrived: Callable[[int], None]) -> str:
        """Write the range; see ``Stream.receive``."""
        identity = answer(self._header(), wanted, self._remote)
        self._file.seek(wanted.offset)
        left = wanted.length
        while left:
            data = self._rest[:left] or self._pipe.read(min(left, READ))
            self._rest = self._rest[len(data) :] if self._rest else b""
            if not data:
                raise HostUnreachable(f"the stream of {self._remote.path} ended early")
            left -= len(data)
            view = memoryview(data)
            while view:
                written = self._file.write(view)
                arrived(written)
                view = view[written:]
        return identity

    def settle(self) -> None:
        """Nothing to do: only what was asked for is ever written."""

    def interrupt(self) -> None:
        """End it from another thread."""
        self._pipe.interrupt()

    def close(self) -> None:
        """End it."""
        self._file.close()
        self._pipe.close()

    def _header(self) -> bytes:
        while b"\n" not in self._rest:
            data = self._pipe.read(HEADER_LIMIT)
            if not data:
                raise HostUnreachable(f"the stream of {self._remote.path} ended before its answer")
            self._rest += data
            if len(self._rest) > 2 * HEADER_LIMIT:
                raise odd_answer(self._remote, self._rest)
        line, _, self._rest = self._rest.partition(b"\n")
        return line


def request(wanted: Range) -> bytes:
    """The line that asks ``harness.remote.box.ranges`` for a range."""
    return b"%d %d\n" % (wanted.offset, wanted.length)


def answer(line: bytes, wanted: Range, remote: RemoteFile) -> str:
    """The identity that the box's answer to a request names. Raises RemoteChanged, TransferFailed."""
    words = line[:HEADER_LIMIT].decode("utf-8", "replace").split()
    if words[:1] == ["changed"]:
        raise RemoteChanged(f"{remote.path} was changed on the box while it was fetched")
    if words[:1] == ["problem"]:
        raise TransferFailed(f"the box cannot read {remote.path}: {' '.join(words[1:])[:300]!r}")
    if words[:3] != ["ok", str(wanted.offset), str(wanted.length)] or len(words) != 4:
        raise odd_answer(remote, line)
    if words[3].split(":")[0] != str(remote.size):
        raise RemoteChanged(f"{remote.path} on the box no longer has the {remote.size} bytes that were recorded")
    return words[3]


def odd_answer(remote: RemoteFile, said: bytes) -> TransferFailed:
    """An answer that no version of the program gives."""
    return TransferFailed(f"the box answers oddly for {remote.path}: {said[:100]!r}")
