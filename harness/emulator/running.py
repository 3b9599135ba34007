"""The emulator in a background thread: its HTTP server and the reconciler of its boxes, one a state directory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from filelock import FileLock, Timeout

from harness.core.errors import BadInput, HarnessError
from harness.emulator.clock import TurnableClock
from harness.emulator.freeport import HOST, free_port
from harness.emulator.reconciler import Reconciler
from harness.emulator.scenario import Scenario, load
from harness.emulator.web.app import build
from harness.emulator.world import World

SETTLE_S = 30.0

SHUTDOWN_S = 0.5
"""How long open requests are waited for at the end."""


class NotSettled(HarnessError):
    """The boxes did not become what the emulator says in time."""


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running emulator: where it answers, its clock, and the world to look into and to spoil.

    ``ended`` is done when it serves no more, and raises what ended it.
    """

    url: str
    clock: TurnableClock
    world: World
    ended: Future[None]
    _reconciler: Reconciler

    @property
    def key(self) -> str:
        """The account's first API key."""
        return self.world.state.key

    def settle(self, timeout: float = SETTLE_S) -> None:
        """Wait (really, seconds) until every box is as its instance says; raises NotSettled, or what ended it."""
        deadline = time.monotonic() + timeout
        while not self._reconciler.settled():
            if self.ended.done():
                self.ended.result()
            if time.monotonic() > deadline:
                raise NotSettled("the boxes did not settle")
            time.sleep(0.01)


@contextmanager
def running(
    state_dir: Path,
    *,
    clock: TurnableClock | None = None,
    scenario: Scenario | str | Path | None = None,
    port: int = 0,
    keep_boxes: bool = False,
) -> Iterator[Emulator]:
    """Run it on a loopback port (0: a free one) while the block runs.

    ``state_dir`` stays; the boxes' processes stay only with ``keep_boxes``. Raises BadInput for a port or a directory
    that cannot be used.
    """
    chosen = scenario if isinstance(scenario, Scenario) else load(scenario)
    state_dir = state_dir.resolve()
    with _owning(state_dir), ThreadPoolExecutor(1, "emulator") as pool:
        world = World(state_dir, clock or TurnableClock(), chosen, free_port)
        reconciler = Reconciler(world)
        url: Future[str] = Future()
        ended = pool.submit(asyncio.run, _serve(world, reconciler, port, url, keep_boxes=keep_boxes))
        try:
            either: set[Future[Any]] = {url, ended}
            wait(either, return_when=FIRST_COMPLETED)
            if not url.done():
                ended.result()
            yield Emulator(url.result(), world.clock, world, ended, reconciler)
        finally:
            reconciler.stop()
            ended.result()


async def _serve(world: World, reconciler: Reconciler, port: int, url: Future[str], *, keep_boxes: bool) -> None:
    runner = web.AppRunner(build(world), access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, HOST, port).start()
        except OSError as error:
            raise BadInput(f"port {port} cannot be used: {error}", remedy="Choose another --port.") from None
        url.set_result(f"http://{HOST}:{runner.addresses[0][1]}")
        await reconciler.run(keep_boxes=keep_boxes)
    finally:
        await runner.cleanup()
        world.save()


@contextmanager
def _owning(state_dir: Path) -> Iterator[None]:
    """Own a state directory while the block runs; the lock ends with the process. Raises BadInput."""
    lock = FileLock(state_dir / "lock", timeout=0, mode=0o600)
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock.acquire()
    except Timeout:
        raise BadInput(f"another emulator uses {state_dir}", remedy="Stop it, or choose another --state.") from None
    except OSError as error:
        raise BadInput(f"{state_dir} cannot be used: {error}") from None
    try:
        yield
    finally:
        lock.release()
