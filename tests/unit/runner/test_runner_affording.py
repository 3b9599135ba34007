"""The limits of all jobs together: looked at before every rent and every start, and held on any doubt."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.context import RunnerContext
from harness.core.errors import HarnessError, ProviderUnavailable, Refused
from harness.core.ids import InstanceId, JobName
from harness.core.lifecycle import Stage
from harness.core.ports import Bill, InstanceStatus
from harness.ledger.events import InstanceStarted, InstanceStopped, Opened, PlanAgreed, Rented, RentFailed, RentIntended
from harness.ledger.kinds import JobEvent
from harness.ledger.limits import AccountLimits
from harness.runner.affording import require_affordable
from tests.support.context import World, make_world, other_job
from tests.support.fake_clock import FakeClock
from tests.support.job_histories import Log, job
from tests.support.scripted_world import Market


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(tmp_path, monkeypatch, fast=True)


def _refused(world: World, *told: str) -> None:
    with pytest.raises(Refused) as raised:
        world.run(until=Stage.PROVISION)
    assert all(one in str(raised.value) for one in told), raised.value
    assert world.provider.count("create") == 0
    assert "limits.toml" in raised.value.remedy


def test_within_the_limits_it_is_rented(world: World) -> None:
    world.limits = AccountLimits(per_hour=16.0, per_day=100.0, per_month=100.0)
    world.run(until=Stage.PROVISION)
    assert world.market.created == 1


def test_without_any_nothing_more_is_asked(world: World) -> None:
    world.run(until=Stage.PROVISION)
    assert world.provider.count("bills") == 1, "before the rent: whether one is billed under this job's label"


def test_what_somebody_else_has_rented_counts_too(world: World) -> None:
    world.limits = AccountLimits(per_hour=31.0)
    world.market.add(99, "by hand")
    _refused(world, "per_hour = 31: $15.90 bill by the hour now, with it that would come to $31.80")
    assert PlanAgreed not in world.kinds(), "nobody was asked"
    world.limits = AccountLimits(per_hour=32.0)
    world.run(until=Stage.PROVISION)
    assert world.market.created == 1


def test_what_was_spent_today_and_what_the_job_will_cost_count(world: World) -> None:
    now = world.clock.now()
    world.provider.break_("bills", (Bill("instance", 5, None, 80.0, now, now - 60),), times=0)
    world.limits = AccountLimits(per_day=85.0)
    _refused(world, "per_day = 85: $80.00 are spent today")


@pytest.mark.parametrize("method", ["bills", "volumes", "account", "instances"])
def test_an_account_that_cannot_be_looked_at_allows_nothing(world: World, method: str) -> None:
    world.limits = AccountLimits(per_month=1e6)
    world.provider.break_(method, ProviderUnavailable("502"), times=0)
    with pytest.raises(HarnessError):
        world.run(until=Stage.PROVISION)
    assert world.provider.count("create") == 0


def test_of_two_jobs_that_ask_at_once_each_counts_the_other(world: World) -> None:
    """The other one's intent is recorded while this one stands before its create."""
    world.limits = AccountLimits(per_hour=20.0)
    day = job().model_copy(update={"name": JobName("day")})

    def meanwhile(event: JobEvent, done: bool) -> None:
        if done and isinstance(event, RentIntended):
            world.store.append(day.name, Opened(day.model_dump(mode="json"), "day.toml"))
            world.store.append(day.name, RentIntended("gsh-day-0a1b2c3d", event.offer, 7))

    with pytest.raises(Refused, match="per_hour = 20"):
        world.run(until=Stage.PROVISION, on_record=meanwhile)
    assert world.provider.count("create") == 0
    assert world.kinds().count(RentFailed) == 1
    assert world.history.unresolved is None, "nothing may bill: nobody looks for it"


def test_a_stopped_instance_is_not_started_over_the_limits(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    number = InstanceId(4711)
    world.market.change(number, status=InstanceStatus.STOPPED, intended_status="stopped", disk_usd_per_hour=0.1)
    world.limits = AccountLimits(per_hour=15.0)
    with pytest.raises(Refused, match=r"\$0.10 bill by the hour now, with it that would come to \$15.90"):
        world.run(until=Stage.TRAINING)
    assert world.provider.count("start") == 0
    world.limits = AccountLimits(per_hour=16.0)
    world.run(until=Stage.TRAINING)
    assert world.provider.count("start") == 1


def test_of_two_jobs_that_start_at_once_each_counts_the_other(world: World) -> None:
    """The other one's start is recorded while this one stands before its own."""
    world.run(until=Stage.LAUNCH)
    standing: dict[str, Any] = {
        "status": InstanceStatus.STOPPED,
        "intended_status": "stopped",
        "disk_usd_per_hour": 0.1,
    }
    other = other_job(world, 600)
    for number in (InstanceId(4711), other):
        world.market.change(number, **standing)
    world.store.append(JobName("day"), InstanceStopped(other, "by hand"))
    world.limits = AccountLimits(per_hour=20.0)

    def meanwhile(event: JobEvent, done: bool) -> None:
        if done and isinstance(event, InstanceStarted):
            world.store.append(JobName("day"), InstanceStarted(other))

    with pytest.raises(
        Refused, match=r"per_hour = 20: \$0.20 bill by the hour now, with it that would come to \$31.80"
    ):
        world.run(until=Stage.TRAINING, on_record=meanwhile)
    assert world.provider.count("start") == 0
    assert world.history.instance_stopped
    assert "not started" in world.history.all(InstanceStopped)[-1].why
    world.store.append(JobName("day"), InstanceStopped(other, "not started"))
    world.run(until=Stage.TRAINING)
    assert world.provider.count("start") == 1


def test_another_jobs_past_counts_by_its_log_where_no_bill_tells_of_it(world: World) -> None:
    other_job(world, 600)
    world.clock.turn(3600.0)
    world.provider.break_("bills", (), times=0)
    world.limits = AccountLimits(per_month=15.0)
    _refused(world, "per_month = 15: $16.16 are spent this month")
    assert Rented not in world.kinds()


OWN = {"provider": {"kind": "ssh", "host": "box", "user": "me"}}
EMBEDDED = {"provider": {"kind": "emulated"}}


@pytest.mark.parametrize(
    ("asks", "has_spent", "refused"),
    [({}, {}, True), ({}, EMBEDDED, False), (EMBEDDED, EMBEDDED, True), (EMBEDDED, {}, False), (OWN, {}, False)],
    ids=["both are paid", "the other nobody pays", "nobody pays either", "nobody pays this", "one's own machine"],
)
def test_what_nobody_pays_is_held_against_what_nobody_pays(
    asks: dict[str, Any], has_spent: dict[str, Any], *, refused: bool
) -> None:
    other = Log(job(**has_spent)).rented()
    clock = FakeClock(other.at + 3600.0)
    history = dataclasses.replace(other.history, job=other.job.model_copy(update={"name": JobName("other")}))
    context = SimpleNamespace(
        job=job(**asks),
        clock=clock,
        limits=lambda: AccountLimits(per_month=10.0),
        jobs=lambda: (history,),
        provider=lambda: Market(clock),
    )
    with pytest.raises(Refused, match="per_month = 10") if refused else nullcontext():
        require_affordable(cast("RunnerContext", context), 1.0, 1.0)


@pytest.mark.parametrize("off", [-10.0 * 86_400, 10.0 * 86_400])
def test_days_begin_by_the_providers_clock(world: World, off: float) -> None:
    """A laptop whose battery was empty is years or days off."""
    now = world.clock.true()
    world.provider.break_("bills", (Bill("instance", 5, None, 80.0, now, now - 60),), times=0)
    world.limits = AccountLimits(per_day=85.0)
    world.clock.set(off)
    _refused(world, "per_day = 85: $80.00 are spent today")


def test_an_instance_that_the_list_lacks_counts(world: World) -> None:
    """An empty or partial list is no ground to rent one more."""
    other_job(world, 600)
    world.market.rented.clear()
    world.limits = AccountLimits(per_hour=31.0)
    _refused(world, "per_hour = 31: $15.90 bill by the hour now, with it that would come to $31.80")
    world.limits = AccountLimits(per_hour=32.0)
    world.run(until=Stage.PROVISION)
    assert world.market.created == 1


@pytest.mark.parametrize(
    ("limits", "asked"),
    [
        (None, 0),
        (AccountLimits(per_hour=99.0), 0),
        (AccountLimits(per_day=999.0), 1),
        (AccountLimits(per_month=999.0), 1),
    ],
    ids=["none", "by the hour", "by the day", "by the month"],
)
def test_the_bills_are_asked_for_where_a_limit_is_of_days_or_months(
    world: World, limits: AccountLimits | None, asked: int
) -> None:
    world.run(until=Stage.PREFLIGHT)
    world.limits, before = limits, world.provider.count("bills")
    require_affordable(world.context(), 15.9, 30.0)
    assert world.provider.count("bills") - before == asked


def test_on_a_machine_of_ones_own_nothing_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, provider={"kind": "ssh", "host": "box"})
    world.open()
    world.limits = AccountLimits(per_hour=0.01)
    require_affordable(world.context(), 15.9, 30.0)
    assert not world.provider.calls
