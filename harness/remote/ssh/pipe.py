"""Standard input and output of a command that runs on the box."""

from __future__ import annotations

import contextlib

from paramiko import Channel

from harness.core.errors import HostUnreachable, TransferFailed
from harness.remote.probe.posix_fallback import NO_SUCH_PROGRAM
from harness.remote.ssh import channel_buffer
from harness.remote.ssh.connection import CUT, Connection, describe, unreachable

OPEN_TIMEOUT_S = 30.0
CHATTER_LIMIT = 64 << 10
"""Bytes that a login shell may print before the program that was asked for begins."""


class CommandPipe:
    """A command on a connection of its own, unless that is ``shared`` and outlives the pipe.

    ``mark``: output begins behind that line. ``silence``: seconds that a read, a write or a line may take, without a
    limit when the caller watches for stalls itself.
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
        self._rest = b""
        try:
            self._channel: Channel = connection.session()
            channel_buffer.attach(self._channel)
            connection.start(self._channel, command, OPEN_TIMEOUT_S)
        except BaseException:
            if not shared:
                connection.close()
            raise
        self._channel.settimeout(silence)

    def write(self, data: bytes) -> None:
        """Send all of it. Raises HostUnreachable, and TransferFailed when the box lacks the program."""
        self._require_program(0.0)
        try:
            with self._in_time():
                self._channel.sendall(data)
        except CUT as error:
            self._require_program()
            raise HostUnreachable(f"the connection was cut: {describe(error)}") from error

    def read(self, limit: int) -> bytes:
        """From one to ``limit`` bytes, none at the end. Raises HostUnreachable, and TransferFailed without the mark."""
        with unreachable("the connection was cut"):
            if self._mark:
                self._skip_to_mark()
            data = self._rest[:limit] or self._channel.recv(limit)
        self._rest = self._rest[limit:]
        return data

    def read_line(self, limit: int) -> bytes:
        """Next line, without its end. Raises TransferFailed beyond ``limit`` bytes, HostUnreachable when none comes."""
        said = b""
        with self._in_time():
            while b"\n" not in said:
                if len(said) > limit:
                    raise TransferFailed(f"the box answers oddly, with a line of more than {limit} bytes")
                data = self.read(1 << 16)
                if not data:
                    raise HostUnreachable("the connection ended before the box's answer did")
                said += data
        line, _, more = said.partition(b"\n")
        self._rest = more + self._rest
        return line

    def close(self) -> None:
        """End the command, and the connection unless others use it; another thread's ``read`` ends."""
        if not self._shared:
            self._connection.close()
        with contextlib.suppress(*CUT):  # a dead connection cannot be told
            self._channel.close()

    def _in_time(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self._silence is None else self._connection.ended_after(self._silence)

    def _skip_to_mark(self) -> None:
        chatter = b""
        with self._in_time():
            while self._mark and (data := self._channel.recv(1 << 16)):
                chatter += data
                _, found, rest = chatter.partition(self._mark)
                if found:
                    self._mark, self._rest = b"", rest
                elif len(chatter) > CHATTER_LIMIT:
                    raise TransferFailed("the box answers oddly, with more than it may before the program begins")
        if self._mark:
            self._require_program()

    def _require_program(self, patience: float = 1.0) -> None:
        """Raise TransferFailed when the command ended, within ``patience`` seconds, as there is no such program."""
        self._channel.status_event.wait(patience)
        if self._channel.exit_status == NO_SUCH_PROGRAM:
            raise TransferFailed("the box has no python3", remedy="Install python3 on the box; it costs nothing.")
