"""A TCP proxy in user space that makes a loopback connection long, narrow, or faulty.

For benchmarks: a round trip time and a cap on each connection, as netem would give where the
kernel has it. For tests: real cuts, silence, and refusal, on command or after a number of bytes.

    python -m benchmarks.delay_proxy --to 22 --rtt-ms 100 --rate-mb 40
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Self

BLOCK = 64 << 10


@dataclass
class Faults:
    """What goes wrong, read at every block.

    ``cuts`` and ``flips`` are totals of bytes sent home at which all connections are cut, and a bit is flipped.
    """

    refuse: bool = False
    silent: bool = False
    cuts: list[int] = field(default_factory=list)
    flips: list[int] = field(default_factory=list)


class Proxy:
    """Runs in a thread of its own. ``rtt`` in seconds, ``rate`` in bytes per second and connection (0: no cap)."""

    def __init__(self, to: int, *, rtt: float = 0.0, rate: float = 0.0, port: int = 0) -> None:
        self.to = to
        self.port = port
        self.faults = Faults()
        self.home_bytes = 0
        """Bytes that went from the server to its clients."""
        self.cuts_made = 0
        self._delay = rtt / 2
        self._rate = rate
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stopping: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._main, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        if self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)

    def cut(self) -> None:
        """Reset every connection now."""
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        self.cuts_made += 1
        for writer in self._writers:
            writer.transport.abort()

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=BLOCK)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopping.wait()
        server.close()
        for writer in self._writers:
            writer.transport.abort()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.faults.refuse:
            writer.transport.abort()
            return
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.to, limit=BLOCK)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, there_writer}
        try:
            await _both(self._pump(reader, there_writer, home=False), self._pump(there_reader, writer, home=True))
        except asyncio.CancelledError:
            return  # the proxy ends; asyncio would log it as an error of the connection
        finally:
            self._writers -= {writer, there_writer}
            writer.transport.abort()
            there_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, home: bool) -> None:
        """One direction: read, keep for half a round trip, write no faster than the cap."""
        flight: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(max(8, int(self._in_flight() / BLOCK)))
        with contextlib.suppress(OSError):
            await _both(self._lift(reader, flight), self._land(flight, writer, home=home))

    async def _lift(self, reader: asyncio.StreamReader, flight: asyncio.Queue[tuple[float, bytes]]) -> None:
        data = b"-"
        while data:
            data = await reader.read(BLOCK)
            await flight.put((time.monotonic() + self._delay, data))

    async def _land(
        self, flight: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, *, home: bool
    ) -> None:
        free_at = 0.0
        while True:
            due, data = await flight.get()
            while self.faults.silent:  # noqa: ASYNC110 - set from another thread
                await asyncio.sleep(0.02)
            if self._rate:
                free_at = max(free_at, time.monotonic()) + len(data) / self._rate
                due = max(due, free_at)
            await asyncio.sleep(max(due - time.monotonic(), 0))
            if not data:
                writer.write_eof()
                return
            writer.write(self._flipped(data) if home else data)
            await writer.drain()
            if home:
                self._count(len(data))

    def _in_flight(self) -> float:
        """Bytes under way in one direction: what the delay holds at the cap, and a router's buffer."""
        return (self._rate or 1e9) * self._delay + (1 << 20)

    def _flipped(self, data: bytes) -> bytes:
        """The block, with a bit flipped in its middle when one is due."""
        if not self.faults.flips or self.home_bytes < self.faults.flips[0]:
            return data
        self.faults.flips.pop(0)
        at = len(data) // 2
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    def _count(self, size: int) -> None:
        self.home_bytes += size
        if self.faults.cuts and self.home_bytes >= self.faults.cuts[0]:
            self.faults.cuts.pop(0)
            self._cut()


async def _both(one: Coroutine[Any, Any, None], other: Coroutine[Any, Any, None]) -> None:
    await asyncio.gather(one, other)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=int, required=True, help="the loopback port that is proxied")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rtt-ms", type=float, default=0.0)
    parser.add_argument("--rate-mb", type=float, default=0.0, help="MB/s a connection and direction; 0: no cap")
    options = parser.parse_args()
    with Proxy(options.to, rtt=options.rtt_ms / 1e3, rate=options.rate_mb * 1e6, port=options.port) as proxy:
        print(proxy.port, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
