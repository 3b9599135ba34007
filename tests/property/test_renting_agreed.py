"""In any course of a market, of answers and kills: nothing is rented but what an agreed plan shows, at its price."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import AmbiguousCreate, HarnessError, OfferGone
from harness.core.ids import InstanceId, OfferId
from harness.core.lifecycle import Stage
from harness.core.ports import CreateRequest, Offer
from harness.ledger.codec import decode
from harness.ledger.events import PlanAgreed, PlanRefused, RentIntended
from harness.ledger.kinds import JobEvent
from harness.runner import renting
from harness.runner.renting import RentPlan
from harness.runner.replacement import Agreement
from tests.support.any_life import AnyLife
from tests.support.context import Killed, World, make_world
from tests.support.scripted_world import Market, offer

OFFERS = st.builds(
    lambda number, price, board, up, disk, machine: dataclasses.replace(
        offer(500 + number),
        usd_per_hour=price,
        gpu_name=board,
        usd_per_gb_up=up,
        disk_usd_per_hour=disk,
        machine_id=machine,
    ),
    st.integers(0, 3),
    st.sampled_from([12.0, 15.9, 15.95]),
    st.sampled_from(["H100 SXM", "H100 NVL"]),
    st.sampled_from([0.0, 0.01]),
    st.sampled_from([None, 0.02, 0.02, 0.03]),
    st.sampled_from([12, 12, 13]),
)
MARKETS = st.lists(st.lists(OFFERS, max_size=4, unique_by=lambda one: one.id), min_size=1, max_size=6)
RUNS = st.lists(
    st.tuples(
        MARKETS,
        st.lists(st.sampled_from(["yes", "yes", None]), max_size=6),
        st.none() | st.integers(1, 8),
        st.sampled_from([None, OfferGone("taken"), AmbiguousCreate("no reply")]),
    ),
    min_size=1,
    max_size=4,
)


def covered(world: World, asked: Any) -> bool:
    """True for an offer that an agreed plan shows, no later rental having used it up: by the log alone."""
    shown: list[Any] = []
    for record in world.store.records(world.job.name):
        event = decode(record)
        if isinstance(event, PlanAgreed):
            shown = list(event.offers)
        if isinstance(event, PlanRefused):
            shown = []
    wanted = ("id", "machine_id", "gpu_name", "num_gpus")
    prices = ("usd_per_hour", "usd_per_gb_up", "usd_per_gb_down")
    return any(
        all(one[name] == asked[name] for name in wanted)
        and all(asked[name] <= one[name] for name in prices)
        and (asked["disk_usd_per_hour"] is None) is (one["disk_usd_per_hour"] is None)
        and (asked["disk_usd_per_hour"] or 0.0) <= (one["disk_usd_per_hour"] or 0.0)
        for one in shown
    )


@dataclass(slots=True)
class Night:
    """One job that is run again and again at a market that moves; what it asks for is held against its plans."""

    world: World
    markets: list[list[Offer]] = field(default_factory=list)
    answers: list[str | None] = field(default_factory=list)
    kill_at: int | None = None
    seen: int = 0

    def moves(self) -> None:
        """The market is another one."""
        if self.markets:
            self.world.market.offers = list(self.markets.pop(0))

    def ask(self, _plan: RentPlan) -> str | None:
        """Somebody thinks, and answers."""
        self.moves()
        return self.answers.pop(0) if self.answers else None

    def strike(self, event: JobEvent, done: bool) -> None:
        """Killed after an event; a rent that is intended is covered before it is written."""
        if isinstance(event, RentIntended) and not done:
            assert covered(self.world, event.offer), "a rent is intended that no plan shows"
        self.seen += done
        if done and self.seen == self.kill_at:
            raise Killed

    def run(self) -> None:
        """The command, once."""
        self.moves()
        agreement = Agreement(self.ask, lambda _: False)
        with contextlib.suppress(HarnessError, Killed):
            self.world.run(until=Stage.PROVISION, on_record=self.strike, agreement=agreement)


def live(runs: list[Any], folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Run a job so often, until it has an instance."""
    world = make_world(folder, patch, fast=True)
    world.run(until=Stage.PREFLIGHT)
    real = Market.create

    def create(self: Market, wanted: OfferId, request: CreateRequest) -> InstanceId:
        for one in self.offers:
            if one.id == wanted:
                assert covered(world, dataclasses.asdict(one)), f"{wanted} is rented and was never agreed to"
        return real(self, wanted, request)

    patch.setattr(Market, "create", create)
    for markets, answers, kill_at, fault in runs:
        world.provider.faults.clear()
        if fault is not None:
            world.provider.break_("create", fault)
        Night(world, list(markets), list(answers), kill_at).run()
        if world.history.rental is not None:
            return


@settings(max_examples=60, deadline=None)
@given(RUNS)
def test_nothing_is_rented_that_no_agreed_plan_shows(runs: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        live(runs, Path(folder), patch)


def _without_the_guard(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(renting, "standing", lambda _history, _now: PlanAgreed("by nobody", (), 0.0, 0.0))
    patch.setattr(renting, "covers", lambda _agreed, _offer: True)


def _without_the_price(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(renting, "_BOUND", ())


def _without_the_board(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(renting, "_SAME", ())


@pytest.mark.parametrize("broken", [_without_the_guard, _without_the_price, _without_the_board])
def test_a_guard_that_is_broken_would_be_seen(
    broken: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    dearer = dataclasses.replace(offer(501), usd_per_hour=15.95)
    other = dataclasses.replace(offer(501), gpu_name="H100 NVL")
    runs = [([[offer(501)], [dearer], [dearer]], ["yes", "yes"], None, None)]
    if broken is _without_the_board:
        runs = [([[offer(501)], [other], [other]], ["yes", "yes"], None, None)]
    with pytest.raises(AssertionError, match=r"no plan shows|never agreed"):
        live(runs, tmp_path, monkeypatch)


def test_any_life_would_see_a_rent_without_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    life = AnyLife()
    try:
        life.begins()
        life.says_no(0, Stage.PROVISION)
        assert not life.market.rented
        life.nothing_is_rented_without_a_plan()
        _without_the_guard(monkeypatch)
        life.says_no(0, Stage.PROVISION)
        assert life.market.rented
        with pytest.raises(AssertionError, match="rented without a plan"):
            life.nothing_is_rented_without_a_plan()
    finally:
        monkeypatch.undo()
        life.patch.undo()
        shutil.rmtree(life.folder, ignore_errors=True)
