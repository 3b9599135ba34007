"""Provision: rented at most once, found again by its label, started again, trusted by its host key."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from pathlib import Path

import pytest

from harness.core.errors import (
    AmbiguousCreate,
    BadInput,
    GateHeld,
    HostKeyChanged,
    HostUnreachable,
    InstanceDead,
    OfferGone,
    ProviderUnavailable,
)
from harness.core.ids import InstanceId
from harness.core.lifecycle import Stage
from harness.core.ports import InstanceStatus
from harness.core.verdict import Verdict
from harness.guard.preconditions import DEAD
from harness.job.model import Job
from harness.ledger.events import InstanceStarted, InstanceStopped, Opened, RentFailed
from harness.runner import provision
from harness.runner.run import open_job
from tests.support.context import Telling, World, make_world
from tests.support.job_histories import check
from tests.support.scripted_world import HOST_KEY, Market, offer


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(tmp_path, monkeypatch, fast=True)


def _rented(world: World) -> InstanceId:
    rental = world.history.rental
    assert rental is not None
    return rental.instance_id


def test_a_lost_reply_to_the_create_is_found_by_its_label(world: World) -> None:
    world.provider.break_("create", AmbiguousCreate("the reply was lost"), commit=True)
    world.run(until=Stage.PROVISION)
    assert world.provider.count("create") == 1
    assert list(world.market.rented) == [_rented(world)]
    assert world.history.rental is not None
    assert world.history.rental.owner == world.market.user


def test_a_create_that_was_lost_on_the_way_is_followed_by_another_only_after_minutes(world: World) -> None:
    world.provider.break_("create", AmbiguousCreate("the reply was lost"))
    world.run(until=Stage.PROVISION)
    assert world.provider.count("create") == 2
    assert sum(world.clock.slept) >= 180
    assert len(world.market.rented) == 1


LOOKS = 7
"""Looks before a first rent: one each ten seconds of a window of sixty."""


def test_a_listing_that_cannot_be_had_is_no_ground_to_rent_again(world: World) -> None:
    world.provider.break_("create", AmbiguousCreate("the reply was lost"), commit=True)
    world.provider.break_("instances", ProviderUnavailable("410 deprecated_endpoint"), after=LOOKS, times=0)
    with pytest.raises(AmbiguousCreate, match="not proven that nothing was rented"):
        world.run()
    assert world.provider.count("create") == 1
    world.provider.faults.clear()
    world.run(until=Stage.PROVISION)
    assert world.provider.count("create") == 1
    assert len(world.market.rented) == 1


def test_another_accounts_key_is_no_ground_to_rent_again(world: World) -> None:
    world.provider.break_("create", AmbiguousCreate("no reply"), commit=True)
    world.provider.break_("instances", ProviderUnavailable("away"), after=LOOKS, times=0)
    with pytest.raises(ProviderUnavailable):
        world.run()
    world.provider.faults.clear()
    mine = dict(world.market.rented)
    world.market.rented.clear()
    world.market.user = 8
    with pytest.raises(GateHeld, match="begun by user 7, the API key is user 8's"):
        world.run()
    assert (world.provider.count("create"), world.kinds().count(RentFailed)) == (1, 0)
    world.market.rented.update(mine)
    world.market.user = 7
    world.run(until=Stage.PROVISION)
    assert world.provider.count("create") == 1


def test_two_instances_with_one_label_are_held_naming_both(world: World) -> None:
    world.provider.break_("create", AmbiguousCreate("the reply was lost"), commit=True)
    world.provider.break_("instances", ProviderUnavailable("away"), after=LOOKS, times=0)
    with pytest.raises(ProviderUnavailable):
        world.run()
    world.provider.faults.clear()
    assert world.history.intended is not None
    world.market.add(99, world.history.intended.label)
    with pytest.raises(GateHeld, match=r"instance 4711 .*; instance 99 "):
        world.run()
    assert world.history.held is not None
    assert "99" in world.history.held.reason
    assert world.provider.count("create") == 1
    assert world.provider.count("destroy") == 0


def test_an_offer_that_is_gone_is_followed_by_the_next(world: World) -> None:
    world.provider.break_("create", OfferGone("taken"))
    world.run(until=Stage.PROVISION)
    assert [arguments[0] for name, arguments in world.provider.calls if name == "create"] == [501, 502]
    assert len(world.market.rented) == 1


def test_when_every_offer_is_gone_the_job_is_held(world: World) -> None:
    world.market.offers = [offer(500 + number) for number in range(9)]
    world.provider.break_("create", OfferGone("taken"), times=0)
    with pytest.raises(OfferGone, match="5 offers were gone"):
        world.run()
    assert world.history.intended is None
    assert not world.market.rented


def test_no_offer_is_held_with_what_was_asked_for(world: World) -> None:
    world.market.offers = [dataclasses.replace(offer(), usd_per_hour=16.5)]
    with pytest.raises(GateHeld, match=r"8x H100_SXM for at most \$16.00/h"):
        world.run()
    assert world.provider.count("create") == 0


def test_an_instance_may_be_missing_for_some_seconds_after_its_create(world: World) -> None:
    world.provider.break_("instance", None, times=5)
    world.run(until=Stage.PROVISION)
    assert world.history.passed(Stage.PROVISION)


def test_an_instance_that_somebody_else_destroyed_is_said_to_be_missing(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    world.market.rented.clear()
    world.clock.turn(3600)
    with pytest.raises(ProviderUnavailable, match="shows no instance 4711") as raised:
        world.run()
    assert "--replace-dead-instance" in raised.value.remedy
    assert world.history.held is not None
    assert world.provider.count("create") == 1


def test_a_stopped_instance_is_started_again(world: World) -> None:
    world.run(until=Stage.PROVISION)
    world.market.stop(_rented(world))
    world.run(until=Stage.UPLOAD)
    assert world.provider.count("start") == 1
    assert world.kinds().count(InstanceStarted) == 1


def test_a_fatal_status_is_told_at_once(world: World) -> None:
    world.run(until=Stage.PREFLIGHT)
    created = world.provider.inner.create

    def doomed(*arguments: object) -> InstanceId:
        instance_id = created(*arguments)  # type: ignore[arg-type]  # the same arguments, passed on
        world.market.change(instance_id, status=InstanceStatus.LOADING, failure="Error: manifest unknown\x1b[2J")
        return instance_id

    world.provider.inner = _With(world.market, create=doomed)  # type: ignore[assignment]  # a market with one other way
    with pytest.raises(ProviderUnavailable, match="manifest unknown") as raised:
        world.run()
    assert "\x1b" not in str(raised.value)
    assert sum(world.clock.slept) <= world.history.job.limits.absence_window_s, "the look before the rent, and no more"
    assert world.provider.count("destroy") == 0


class _With:
    """A market of which one method does something else."""

    def __init__(self, inner: object, **others: object) -> None:
        self._inner, self._others = inner, others

    def __getattr__(self, name: str) -> object:
        return self._others[name] if name in self._others else getattr(self._inner, name)


def test_an_instance_that_never_runs_is_given_up_at_the_deadline(world: World) -> None:
    world.run(until=Stage.PREFLIGHT)
    world.provider.break_("create", InstanceId(4711))
    world.market.add(4711, "x", InstanceStatus.LOADING)
    with pytest.raises(ProviderUnavailable, match="loading after 1200 s"):
        world.run()


def test_the_host_key_is_pinned_from_the_container_log(world: World) -> None:
    world.run(until=Stage.PROVISION)
    pin = world.history.pin
    assert pin is not None
    assert pin.keys == (HOST_KEY,)
    assert "TLS API" in pin.how


def test_a_log_without_keys_is_waited_for_and_then_said_to_be_first_use(world: World) -> None:
    world.market.log = "nothing"
    told = world.run(until=Stage.PROVISION)
    pin = world.history.pin
    assert pin is not None
    assert (pin.keys, pin.how) == ((HOST_KEY,), "first use")
    assert any("shows no host key" in note for note in told.notes)


def test_another_key_than_the_pinned_one_is_refused_at_once(world: World) -> None:
    world.box.host_key = HOST_KEY + "Other"
    with pytest.raises(HostKeyChanged):
        world.run()
    assert sum(world.clock.slept) <= world.history.job.limits.absence_window_s, "the look before the rent, and no more"
    assert world.history.held is not None


@pytest.mark.parametrize(("silent_s", "comes"), [(30.0, True), (1190.0, True), (1300.0, False)])
def test_a_box_that_lets_nobody_in_yet_is_asked_again_until_the_machines_own_deadline(
    world: World, silent_s: float, comes: bool
) -> None:
    """``running`` comes minutes before its SSH server accepts the key."""
    world.run(until=Stage.PREFLIGHT)
    began: list[float] = []

    def reachable() -> bool:
        began.append(world.clock.monotonic())
        return world.clock.monotonic() - began[0] >= silent_s

    world.box.reachable = reachable
    with contextlib.nullcontext() if comes else pytest.raises(HostUnreachable):
        world.run(until=Stage.PROVISION)
    assert {round(later - earlier, 1) for earlier, later in itertools.pairwise(began[: int(silent_s / 2)])} == {2.0}
    assert world.history.passed(Stage.PROVISION) is comes
    assert world.provider.count("create") == 1


@pytest.mark.parametrize("silent_s", [20.0, 59.0])
def test_a_host_key_that_the_provider_shows_late_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch, silent_s: float
) -> None:
    world.run(until=Stage.PREFLIGHT)
    asked: list[float] = []

    def late(_market: Market, _id: InstanceId, *, newest: bool = False) -> tuple[str, ...]:
        assert not newest
        asked.append(world.clock.monotonic())
        return (HOST_KEY,) if asked[-1] - asked[0] >= silent_s else ()

    monkeypatch.setattr(Market, "host_keys", late)
    told = world.run(until=Stage.PROVISION)
    assert world.history.pin is not None
    assert "TLS API" in world.history.pin.how
    assert not any("shows no host key" in note for note in told.notes)
    assert {later - earlier for earlier, later in itertools.pairwise(asked)} == {2.0}


@pytest.mark.parametrize("hours", [6.1, -6.1, 5.9])
def test_nothing_is_rented_on_a_preflight_of_long_ago_or_of_a_time_to_come(world: World, hours: float) -> None:
    world.run(until=Stage.PREFLIGHT)
    world.clock.set(hours * 3600)
    told = world.run(until=Stage.PROVISION)
    again = [note for note in told.notes if "preflight is judged again before anything is rented" in note]
    assert len(again) == (abs(hours) > 6)
    assert world.judged.count(Stage.PREFLIGHT) == 1 + len(again)
    assert not again or ("yet to come" in again[0]) is (hours < 0)
    assert world.provider.count("create") == 1


def test_new_keys_after_our_own_start_are_taken_from_the_newest_block_of_the_log(world: World) -> None:
    world.run(until=Stage.PROVISION)
    world.market.stop(_rented(world))
    new = HOST_KEY + "New"
    world.box.host_key = new
    world.market.log += f"-----BEGIN SSH HOST KEY KEYS-----\n{new}\n-----END SSH HOST KEY KEYS-----\n"
    world.run(until=Stage.UPLOAD)
    pin = world.history.pin
    assert pin is not None
    assert pin.keys == (new,)


def test_new_keys_without_a_start_of_ours_are_refused(world: World) -> None:
    world.run(until=Stage.PROVISION)
    new = HOST_KEY + "New"
    world.box.host_key = new
    world.market.log += f"-----BEGIN SSH HOST KEY KEYS-----\n{new}\n-----END SSH HOST KEY KEYS-----\n"
    with pytest.raises(HostKeyChanged):
        world.run()
    assert world.history.pin is not None
    assert world.history.pin.keys == (HOST_KEY,)


_OVER_BUDGET = check(Stage.PREFLIGHT, "cost_within_budget", Verdict.FAIL)


def _with_limits(world: World, **limits: float) -> Job:
    return world.job.model_copy(update={"limits": world.job.limits.model_copy(update=limits)})


def test_until_something_is_rented_the_job_file_may_be_mended_as_preflight_asks(world: World) -> None:
    world.gates[Stage.PREFLIGHT] = [(_OVER_BUDGET,)]
    with pytest.raises(GateHeld):
        world.run()
    world.job = _with_limits(world, budget_usd=99.0)
    world.run(until=Stage.PREFLIGHT)
    assert world.history.job.limits.budget_usd == 99.0


@pytest.mark.parametrize("until", [Stage.PREFLIGHT, Stage.PROVISION])
def test_a_changed_job_file_is_judged_by_preflight_before_the_job_goes_on(world: World, until: Stage) -> None:
    world.run(until=until)
    changed = _with_limits(world, budget_usd=39.0)
    open_job(world.store, changed, world.home / "job.toml", accept_changes=True)
    world.job = changed
    world.gates[Stage.PREFLIGHT] = [(_OVER_BUDGET,)]
    with pytest.raises(GateHeld, match="preflight"):
        world.run()
    assert world.provider.count("create") == (until is Stage.PROVISION)
    world.run(until=Stage.UPLOAD)
    assert world.provider.count("create") == 1


def test_a_job_under_way_wants_changes_agreed_to(world: World) -> None:
    world.run(until=Stage.PROVISION)
    before = world.kinds().count(Opened)
    changed = _with_limits(world, budget_usd=99.0, stall_s=5.0)
    with pytest.raises(BadInput, match=r"changes limits.budget_usd, limits.stall_s"):
        open_job(world.store, changed, world.home / "job.toml", accept_changes=False)
    open_job(world.store, changed, world.home / "job.toml", accept_changes=True)
    assert world.history.job.limits.budget_usd == 99.0
    open_job(world.store, changed, world.home / "job.toml", accept_changes=False)
    assert world.kinds().count(Opened) == before + 1


@pytest.mark.parametrize(
    ("table", "field", "value"),
    [
        ("provider", "kind", "emulated"),
        ("package", "remote_dir", "/workspace/elsewhere"),
        ("training", "session", "other"),
        ("machine", "ssh_user", "ubuntu"),
    ],
)
def test_a_rented_job_does_not_change_where_its_things_are_looked_for(
    world: World, table: str, field: str, value: str
) -> None:
    changed = getattr(world.job, table).model_copy(update={field: value})
    elsewhere = world.job.model_copy(update={table: changed})
    open_job(world.store, elsewhere, world.home / "job.toml", accept_changes=True)
    open_job(world.store, world.job, world.home / "job.toml", accept_changes=True)
    world.run(until=Stage.PROVISION)
    with pytest.raises(BadInput, match=rf"{table}\.{field}"):
        open_job(world.store, elsewhere, world.home / "job.toml", accept_changes=True)


STARTABLE = {InstanceStatus.STOPPED, InstanceStatus.EXITED}


@pytest.mark.parametrize("status", list(InstanceStatus))
def test_each_state_of_an_instance_holds_ends_or_is_waited_for_in_the_midst_of_a_stage(
    world: World, status: InstanceStatus
) -> None:
    world.run(until=Stage.PROVISION)
    world.market.change(_rented(world), status=status, status_message="why")
    context = world.context()
    if status in STARTABLE:
        with pytest.raises(GateHeld, match=f"instance 4711 is {status}, and not by this job; its disk is kept: why"):
            provision.require_running(context)
    else:
        assert provision.require_running(context) is status
    dead = provision.death(context)
    assert (dead is not None) is (status in DEAD)
    assert dead is None or str(dead) == f"instance 4711 is {status}"
    assert not provision.gone_by_now(context)


def test_what_the_provider_shows_no_more_is_dead_and_gone_and_what_it_does_not_tell_is_only_gone(
    world: World,
) -> None:
    world.run(until=Stage.PROVISION)
    context = world.context()
    world.provider.break_("instance", ProviderUnavailable("503"), times=2)
    assert provision.gone_by_now(context)
    assert provision.death(context) is None
    world.market.rented.clear()
    assert provision.gone_by_now(context)
    assert "the provider shows no instance 4711" in str(provision.death(context))
    with pytest.raises(InstanceDead):
        provision.require_running(context)


def test_without_an_instance_nothing_is_dead_and_nothing_to_start(world: World) -> None:
    world.open()
    context = world.context()
    assert provision.gone_by_now(context)
    assert provision.death(context) is None
    assert provision.require_running(context) is InstanceStatus.UNKNOWN
    provision.resume(context, Telling(), may_start=True)
    assert InstanceStarted not in world.kinds()


@pytest.mark.parametrize("stopped", [True, False])
def test_one_that_runs_again_behind_our_back_is_recorded_as_started(world: World, stopped: bool) -> None:
    world.run(until=Stage.PROVISION)
    context = world.context()
    if stopped:
        context.record(InstanceStopped(_rented(world), "for the night"))
    provision.resume(context, Telling(), may_start=True)
    assert world.kinds().count(InstanceStarted) == stopped
    assert world.provider.count("start") == 0
