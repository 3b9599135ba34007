"""The embedded Vast.ai without its boxes, on a clock that only turns, and a box that is a folder."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiohttp import web

from harness.conformance import run as conformance
from harness.conformance.bench import RunBench
from harness.conformance.run import Conformance
from harness.core.errors import HostUnreachable
from harness.core.ports import Instance, Provider, RunResult
from harness.emulator.box.layout import layout_of
from harness.emulator.clock import TurnableClock
from harness.emulator.rental import RentedInstance
from harness.emulator.request import InstanceRequest
from harness.emulator.scenario import Scenario
from harness.emulator.web.app import build
from harness.emulator.world import World
from harness.ledger import throwaway
from harness.ledger.ownership import Known
from harness.providers.assumptions import Box, Subject
from harness.providers.rate_limits import UNPACED
from harness.providers.vast.credentials import Credentials
from harness.providers.vast.keys import VastKeyIssuer
from harness.providers.vast.trials import subject

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBoxKeyBoxKeyBoxKeyBoxKeyBoxKey"
LOG = "-----BEGIN SSH HOST KEY KEYS-----\n{} box\n-----END SSH HOST KEY KEYS-----\n"
PLACE: tuple[str, dict[str, str]] = ("vast", {})


@dataclass(slots=True)
class Habits:
    """The ways of a box: what it shows, whom it lets in, over which route, how many at once, and what it prints."""

    host_key: str = HOST_KEY
    later_host_key: str = HOST_KEY
    closed_routes: tuple[str, ...] = ()
    most_logins: int = 100
    banner: bytes = b""
    runs_onstart: bool = True
    forgets_keys: bool = False


@dataclass(slots=True)
class FolderBox:
    """A ``Box``: commands run in a folder, as long as the world says that it would let us in."""

    world: World
    instance: Instance
    habits: Habits
    logins: list[object]

    def run(self, argv: Sequence[str], *, timeout: float = 60.0) -> RunResult:
        rental = self._let_in()
        home = self.world.state_dir / f"disk-{rental.id}-{rental.wipes}"
        home.mkdir(exist_ok=True)
        if self.habits.runs_onstart and "touch ~/.no_auto_tmux" in rental.onstart:
            (home / ".no_auto_tmux").touch()
        done = subprocess.run(argv, cwd=home, capture_output=True, timeout=timeout, check=False)
        return RunResult(done.returncode, self.habits.banner + done.stdout, done.stderr)

    def host_key(self) -> str:
        rental = self._let_in()
        self.logins.append(self)
        if len(self.logins) > self.habits.most_logins:
            raise HostUnreachable("connection reset by MaxStartups")
        return self.habits.host_key if rental.boots < 2 else self.habits.later_host_key

    def close(self) -> None:
        pass

    def _let_in(self) -> RentedInstance:
        rental, now = self.world.rental(int(str(self.instance.id))), self.world.clock.now()
        if all(one.route in self.habits.closed_routes for one in self.instance.endpoints):
            raise HostUnreachable("connection refused")
        known = [key for key in rental.keys if now >= key.attached_at + self.world.timing.key_s]
        if not known or (self.habits.forgets_keys and rental.boots > 1):
            raise HostUnreachable("the key is refused")
        return rental


@dataclass(slots=True)
class Service:
    """The service, and what is believed of it. ``said`` is every line of a run."""

    world: World
    url: str
    home: Path
    habits: Habits
    changed: Callable[[Provider], Provider] = lambda provider: provider
    said: list[str] = field(default_factory=list)
    logins: list[object] = field(default_factory=list)

    @property
    def clock(self) -> TurnableClock:
        return self.world.clock

    def subject(self, url: str | None = None) -> Subject:
        """Vast.ai's subject against this service."""
        credentials = Credentials(url or self.url, self.world.state.key)
        issuer = VastKeyIssuer(self.url, {}, self.home, self.clock, UNPACED)
        made = subject(credentials, self.clock, issuer, UNPACED)
        return replace(made, provider=self.changed(made.provider))

    def open_box(self, instance: Instance, key_file: Path, pin: Path) -> Box:
        assert key_file.exists()
        assert pin.parent == key_file.parent
        return FolderBox(self.world, instance, self.habits, self.logins)

    def run(self, budget: float = 0.25, known: Known | None = None) -> Conformance:
        """A run, agreed to and not begun."""
        made = self.subject()
        account = made.provider.account()
        journal = throwaway.begin(self.home, self.clock, *PLACE, account.user_id)
        bench = RunBench(made, self.clock, account, journal, self.open_box)
        return Conformance(bench, conformance.plan(made, budget), known or Known(), self.said.append)

    def journals(self) -> tuple[throwaway.Throwaway, ...]:
        """The journals as another process reads them."""
        return throwaway.runs(self.home, self.clock)


@contextmanager
def service(folder: Path, habits: Habits | None = None, **told: Any) -> Iterator[Service]:
    """A world whose containers print their host key when they are rented, served on a loopback port."""
    (folder / "state").mkdir(parents=True)
    world = World(folder / "state", TurnableClock(speed=0), Scenario.model_validate({"name": "test", **told}))
    create = world.create

    def created(ask_id: int, request: InstanceRequest) -> RentedInstance:
        rental = create(ask_id, request)
        log = layout_of(world.state_dir, rental.id).log
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(LOG.format(HOST_KEY), encoding="utf-8")
        return rental

    world.create = created  # type: ignore[method-assign]
    url: Future[str] = Future()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(_serve(world, url, stop),))
    thread.start()
    try:
        yield Service(world, url.result(timeout=120), folder, habits or Habits())
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=120)
        loop.close()


async def _serve(world: World, url: Future[str], stop: asyncio.Event) -> None:
    runner = web.AppRunner(build(world), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url.set_result(f"http://127.0.0.1:{runner.addresses[0][1]}")
    await stop.wait()
    await runner.cleanup()
