"""The emulator inside a Python process: a background thread with its own event loop."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from harness.emulator.clock import TurnableClock
from harness.emulator.keeper import Keeper
from harness.emulator.scenario import Scenario, load
from harness.emulator.web.app import build
from harness.emulator.world import World
from harness.errors import BadInput, HarnessError

SETTLE_S = 30.0


class NotSettled(HarnessError):
    """The boxes did not become what the emulator says in time."""


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running emulator: where it answers, its key, its clock, and the world to look into and to spoil."""

    url: str
    key: str
    clock: TurnableClock
    world: World
    keeper: Keeper

    def settle(self, timeout: float = SETTLE_S) -> None:
        """Wait (really) until every box is as its instance says; raises NotSettled."""
        deadline = time.monotonic() + timeout
        while not self.keeper.settled():
            if time.monotonic() > deadline:
                raise NotSettled("the boxes did not settle")
            time.sleep(0.01)


def free_port() -> int:
    """A loopback port that nothing uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(
    state_dir: Path,
    *,
    clock: TurnableClock | None = None,
    scenario: Scenario | str | Path | None = None,
    port: int = 0,
    keep_boxes: bool = False,
) -> Iterator[Emulator]:
    """Run it while the block runs. ``state_dir`` stays; the boxes' processes stay only with ``keep_boxes``."""
    chosen = scenario if isinstance(scenario, Scenario) else load(scenario)
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    world = World(state_dir, clock or TurnableClock(), chosen, free_port)
    keeper = Keeper(world)
    started: list[str | BaseException] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        try:
            async with serving(world, keeper, port, keep_boxes=keep_boxes) as url:
                started.append(url)
                ready.set()
                await stop.wait()
        except BaseException as error:
            started.append(error)
            ready.set()
            raise

    def work() -> None:
        try:
            loop.run_until_complete(serve())
        except HarnessError:
            pass
        finally:
            loop.close()

    thread = threading.Thread(target=work, name="emulator", daemon=True)
    thread.start()
    ready.wait()
    first = started[0]
    if isinstance(first, BaseException):
        thread.join()
        raise first
    try:
        yield Emulator(first, world.key, world.clock, world, keeper)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


class serving:  # noqa: N801  # reads as a context manager
    """The servers of one world inside an event loop; yields the URL."""

    def __init__(self, world: World, keeper: Keeper, port: int, *, keep_boxes: bool) -> None:
        self._world = world
        self._keeper = keeper
        self._port = port
        self._keep_boxes = keep_boxes
        self._runner = web.AppRunner(build(world), access_log=None, shutdown_timeout=0.5)

    async def __aenter__(self) -> str:
        await self._runner.setup()
        port = self._port or free_port()
        try:
            await web.TCPSite(self._runner, "127.0.0.1", port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise BadInput(f"port {port} cannot be used: {error}", remedy="Choose another --port.") from None
        self._keeping = asyncio.create_task(self._keeper.run())
        return f"http://127.0.0.1:{port}"

    async def __aexit__(self, *_: object) -> None:
        self._keeping.cancel()
        await asyncio.gather(self._keeping, return_exceptions=True)
        await self._keeper.close(kill=not self._keep_boxes)
        await self._runner.cleanup()
        self._world.save()
