"""``limits.toml`` over the embedded Vast.ai: what was charged counts, the newest of ours is stopped, its disk kept."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

from harness.cli.enforcing import Watched, enforce
from harness.core.lifecycle import Stage
from harness.emulator.running import running
from harness.ledger import account, ownership
from harness.ledger.account import AccountLook
from harness.ledger.events import InstanceStopped, Rented
from harness.ledger.jobs import Ledger
from harness.ledger.kinds import JobEvent
from harness.ledger.limits import AccountLimits
from harness.ledger.two_clocks import TwoClocks
from harness.providers.rate_limits import UNPACED
from harness.providers.vast.credentials import Credentials
from harness.providers.vast.provider import VastProvider
from tests.support.context import Killed, make_world
from tests.support.emulator_kit import create_request, scenario
from tests.support.faulty_provider import FaultyProvider

pytest.importorskip("vastai")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS")
BY_HAND = 7_100_003


def _ends(event: JobEvent, done: bool) -> None:
    if done and isinstance(event, Rented):
        raise Killed


def test_what_is_over_is_stopped_and_what_was_charged_is_what_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    with running(tmp_path / "service", scenario=scenario(isolation="none")) as emulator:
        vast = VastProvider(Credentials(emulator.url, emulator.key), world.clock, pace=UNPACED)
        world.provider = FaultyProvider(vast)
        world.clock.turn(emulator.clock.now() - world.clock.now())  # one time, as the real ones are
        with contextlib.suppress(Killed):
            world.run(until=Stage.PROVISION, on_record=_ends)
        rental = world.history.rental
        assert rental is not None
        by_hand = emulator.world.create(BY_HAND, create_request(label="by hand"))
        emulator.settle()
        ahead = 2 * 3600.0
        for clock in (emulator.clock, world.clock):
            clock.turn(ahead)

        ledger, place = Ledger(world.store), ownership.place(world.job.provider)
        look = AccountLook(vast.instances().instances, vast.volumes(), vast.bills())
        seen = account.spending([world.history], {place: look}, TwoClocks(emulator.clock.now(), world.clock.now()))
        charged = sum(bill.usd for bill in look.bills)
        assert charged > 2 * 0.9 * rental.usd_per_hour
        assert seen.per_month == pytest.approx(charged, rel=0.1)
        assert seen.per_hour == pytest.approx(sum(one.usd_per_hour for one in look.instances))

        watched: dict[object, Watched] = {place: Watched(False, vast, ledger.known(world.job.provider), look.instances)}
        told, unseen = enforce(ledger, [world.history], watched, AccountLimits(per_hour=1.0), world.clock)
        assert not unseen
        assert [one.key for one in told] == ["limits per_hour = 1", f"stop {rental.instance_id}"]
        assert emulator.world.rental(rental.instance_id).intended.value == "stopped"  # type: ignore[arg-type]  # a number
        assert emulator.world.rental(by_hand.id).intended.value == "running"
        assert isinstance(world.history.all(InstanceStopped)[-1], InstanceStopped)
        assert len(emulator.world.rentals()) == 2
