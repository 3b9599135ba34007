"""Receive buffer of a paramiko channel that serves few large reads.

paramiko's own buffer wakes its reader for every packet of 32 KiB, and each waking takes the interpreter from the
thread that decrypts: a download from a near box over it takes a quarter longer.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, cast

from paramiko.buffered_pipe import PipeTimeout

if TYPE_CHECKING:
    from paramiko import Channel
    from paramiko.buffered_pipe import BufferedPipe

LINGER_S = 0.01
"""Seconds that a large read waits for all that it asked for, before it is content with less."""

LARGE_READ = 128 << 10
"""Bytes of a large read. Whoever asks for less waits for an answer, which is short: it is wanted at once."""


def attach(channel: Channel) -> None:
    """Give a channel this buffer; to be called before anything is asked of the box on it."""
    buffer = ChannelBuffer()
    channel.in_buffer = cast("BufferedPipe[bytes]", buffer)
    if channel.closed or channel.eof_received:  # while the buffer before was there to be told
        buffer.close()


class ChannelBuffer:
    """The part of ``BufferedPipe`` that ``Channel.recv`` and the transport's thread use. Safe between the two."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._packets: deque[bytes] = deque()
        self._size = 0
        self._wanted = 1
        self._closed = False

    def feed(self, packet: bytes) -> None:
        """Add bytes that arrived."""
        with self._changed:
            self._packets.append(packet)
            self._size += len(packet)
            if self._size >= self._wanted:
                self._changed.notify()

    def close(self) -> None:
        """Note that nothing arrives any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def read(self, limit: int, timeout: float | None = None) -> bytes:
        """Read from one to ``limit`` bytes, all of them if that is a large read and they come soon; none at the end.

        Raises PipeTimeout when there is nothing for ``timeout`` seconds.
        """
        with self._changed:
            lingered = limit >= LARGE_READ and self._arrives(limit, LINGER_S)
            if not lingered and not self._arrives(1, timeout):
                raise PipeTimeout
            return self._taken(limit)

    def __len__(self) -> int:
        """Bytes that nobody read yet."""
        return self._size

    def _arrives(self, size: int, timeout: float | None) -> bool:
        """Wait until ``size`` bytes are there, or the last ones are."""
        self._wanted = size
        return self._changed.wait_for(lambda: self._closed or self._size >= self._wanted, timeout)

    def _taken(self, limit: int) -> bytes:
        found: list[bytes] = []
        while self._packets and limit:
            packet = self._packets.popleft()
            if len(packet) > limit:
                self._packets.appendleft(packet[limit:])
                packet = packet[:limit]
            found.append(packet)
            self._size -= len(packet)
            limit -= len(packet)
        return b"".join(found)
