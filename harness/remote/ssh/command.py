"""Runs one command on the box, from its first byte of input to its exit status."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import paramiko

from harness.core.errors import HostUnreachable
from harness.core.ports import Clock, RunResult
from harness.remote.ssh.connection import CUT, Connection, describe, name


def run_command(
    connection: Connection,
    channel: paramiko.Channel,
    command: str,
    clock: Clock,
    *,
    stdin: bytes = b"",
    timeout: float = 60.0,
    limit: int = 1 << 20,
    stop_at_limit: bool = False,
    heard: Callable[[bytes], None] | None = None,
) -> RunResult:
    """Run a command to its end on a fresh channel: its output, each stream cut at ``limit`` bytes, and its exit status.

    Status -1 means that a signal ended it. With ``stop_at_limit`` more output than that ends the command
    too. ``heard`` is told standard output as it comes. Raises HostUnreachable when the connection fails or
    ``timeout`` seconds pass; the command is never sent twice, for it may have run.
    """
    deadline = clock.monotonic() + timeout
    connection.start(channel, command, timeout)
    errors = _BoundedOutput(limit)
    drain = threading.Thread(target=errors.take, args=(channel.recv_stderr,), daemon=True)
    feed = threading.Thread(target=_feed, args=(channel, stdin), daemon=True)
    drain.start()
    feed.start()
    output = _BoundedOutput(limit)
    try:
        while True:
            channel.settimeout(max(deadline - clock.monotonic(), 0.001))
            data = channel.recv(1 << 20)
            output.add(data)
            if heard is not None:
                heard(data)
            if not data or (stop_at_limit and output.overflowed):
                break
        if stop_at_limit and output.overflowed:
            return RunResult(-1, output.bytes(), b"")
        ended = channel.status_event.wait(max(deadline - clock.monotonic(), 0.001))
        drain.join(max(deadline - clock.monotonic(), 0.001))
    except CUT as error:
        slow = isinstance(error, TimeoutError)
        what = f"{timeout:.0f} s passed" if slow else f"the connection was cut: {describe(error)}"
        raise _did_not_end(connection, what) from error
    finally:
        with contextlib.suppress(*CUT):  # a dead connection cannot be told
            channel.close()
    if not ended:
        raise _did_not_end(connection, f"{timeout:.0f} s passed")
    if channel.exit_status == -1:
        # A signal, or a cut: a channel hears of one before its connection counts as dead.
        try:
            connection.round_trip(clock)
        except HostUnreachable as error:
            raise _did_not_end(connection, "the connection was cut") from error
    return RunResult(channel.exit_status, output.bytes(), errors.bytes())


def _did_not_end(connection: Connection, what: str) -> HostUnreachable:
    return HostUnreachable(f"a command on {name(connection.endpoint)} did not end: {what}")


class _BoundedOutput:
    """Bytes up to a limit; the rest is counted away."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self.overflowed = False

    def add(self, data: bytes) -> None:
        room = self._limit - self._size
        self.overflowed = self.overflowed or len(data) > room
        if room > 0:
            self._parts.append(data[:room])
            self._size += min(len(data), room)

    def take(self, receive: Callable[[int], bytes]) -> None:
        try:
            while data := receive(1 << 16):
                self.add(data)
        except OSError:
            return  # the connection's fate is told by standard output

    def bytes(self) -> bytes:
        return b"".join(self._parts)


def _feed(channel: paramiko.Channel, data: bytes) -> None:
    try:
        if data:
            channel.sendall(data)
        channel.shutdown_write()
    except OSError:
        return  # a command may end without reading its input; its status tells
