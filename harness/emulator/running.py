"""The emulator inside a Python process: a background thread with its own event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import HarnessError
from harness.emulator.clock import TurnableClock
from harness.emulator.freeport import free_port
from harness.emulator.reconciler import Reconciler
from harness.emulator.scenario import Scenario, load
from harness.emulator.serving import owning, serving
from harness.emulator.world import World

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
    _keeper: Reconciler
    _ended: Future[None]

    def settle(self, timeout: float = SETTLE_S) -> None:
        """Wait (really, seconds) until every box is as its instance says; raises NotSettled, or what ended it."""
        deadline = time.monotonic() + timeout
        while not self._keeper.settled():
            if self._ended.done():
                self._ended.result()
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
    """Run it while the block runs. ``state_dir`` stays; the boxes' processes stay only with ``keep_boxes``."""
    chosen = scenario if isinstance(scenario, Scenario) else load(scenario)
    state_dir = state_dir.resolve()
    with owning(state_dir), ThreadPoolExecutor(1, "emulator") as pool:
        world = World(state_dir, clock or TurnableClock(), chosen, free_port)
        reconciler = Reconciler(world)
        url: Future[str] = Future()
        stop = asyncio.Event()
        loop = asyncio.new_event_loop()

        async def serve() -> None:
            async with serving(world, reconciler, port, keep_boxes=keep_boxes) as served:
                url.set_result(served.url)
                await served.until(stop)

        def work() -> None:
            try:
                loop.run_until_complete(serve())
            finally:
                loop.close()

        def tell(done: Future[None]) -> None:
            if not url.done():
                url.set_exception(done.exception() or NotSettled("the emulator ended before it began"))

        ended = pool.submit(work)
        ended.add_done_callback(tell)
        try:
            yield Emulator(url.result(), world.key, world.clock, world, reconciler, ended)
        finally:
            if not ended.done():
                loop.call_soon_threadsafe(stop.set)
            ended.result()
