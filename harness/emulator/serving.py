"""Emulator inside an event loop: its HTTP server and the reconciler of its boxes, one a state directory."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from harness.core.errors import BadInput
from harness.emulator.freeport import HOST
from harness.emulator.reconciler import Reconciler
from harness.emulator.web.app import build
from harness.emulator.world import World

SHUTDOWN_S = 0.5
"""How long open requests are waited for at the end."""


@dataclass(frozen=True, slots=True)
class Served:
    """An emulator that answers."""

    url: str
    reconciling: asyncio.Task[None]

    async def until(self, stop: asyncio.Event) -> None:
        """Serve until told to stop; raises what ended the reconciler, should it end first."""
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({stopping, self.reconciling}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if self.reconciling.done():
            self.reconciling.result()


@contextlib.asynccontextmanager
async def serving(world: World, reconciler: Reconciler, port: int, *, keep_boxes: bool) -> AsyncIterator[Served]:
    """Serve while the block runs, on a loopback port (0: a free one). Raises BadInput when the port is taken."""
    runner = web.AppRunner(build(world), access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, HOST, port).start()
        except OSError as error:
            raise BadInput(f"port {port} cannot be used: {error}", remedy="Choose another --port.") from None
        reconciling = asyncio.create_task(reconciler.run())
        try:
            yield Served(f"http://{HOST}:{runner.addresses[0][1]}", reconciling)
        finally:
            reconciling.cancel()
            await asyncio.wait({reconciling})
            await reconciler.close(kill=not keep_boxes)
    finally:
        await runner.cleanup()
        world.save()


@contextlib.contextmanager
def owning(state_dir: Path) -> Iterator[None]:
    """Own a state directory while the block runs; the lock ends with the process. Raises BadInput."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise BadInput(f"{state_dir} cannot be used: {error}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise BadInput(f"another emulator uses {state_dir}", remedy="Stop it, or choose another --state.") from None
    try:
        yield
    finally:
        os.close(lock)
