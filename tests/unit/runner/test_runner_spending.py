"""The cap is a cap in every stage, by clocks that nobody sets; a stop is asked for until it is proven."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import GateHeld, HarnessError, ProviderUnavailable
from harness.core.lifecycle import Stage
from harness.core.ports import Account, InstanceStatus
from harness.ledger.events import BudgetNear, GateJudged, InstanceStarted, InstanceStopped, Launched, Relaunched, Rented
from harness.ledger.kinds import JobEvent
from harness.ledger.locks import LEASE_S
from harness.runner.progress import UPLOAD
from harness.runner.run import open_job
from harness.runner.spending import BudgetWatch, WatchedReporter
from tests.support.context import Killed, MemoryStore, Telling, World, make_world
from tests.support.job_histories import gate
from tests.support.scripted_world import Box, Market, offer

HOUR_S = 3600.0
BUDGET_USD = 40.0
PRICE = 15.9


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(tmp_path, monkeypatch, fast=True, limits={"budget_usd": BUDGET_USD, "training_deadline_s": 5e5})


def _true_usd(world: World, began: float) -> float:
    """Cost of the time since then, by a clock that nobody set."""
    return (world.clock.true() - began) / HOUR_S * PRICE


def _slow_transfer(box: Box) -> None:
    box.transfer_s = 20 * HOUR_S


def _slow_command(box: Box) -> None:
    box.command_s = 20 * HOUR_S


def _hung_training(box: Box) -> None:
    box.hangs = 9


@pytest.mark.parametrize(
    ("stage", "slow"),
    [
        (Stage.UPLOAD, _slow_transfer),
        (Stage.INSTALL, _slow_command),
        (Stage.TRAINING, _hung_training),
        (Stage.POSTDOWNLOAD, _slow_transfer),
    ],
)
def test_every_stage_that_bills_ends_at_the_cap(world: World, stage: Stage, slow: Callable[[Box], None]) -> None:
    """Twenty hours at the price of eight H100 would come to 318 USD."""
    job = world.job.model_copy(update={"package": world.job.package.model_copy(update={"install_timeout_s": 1e6})})
    world.job = job
    before = list(Stage)[list(Stage).index(stage) - 1]
    began = world.clock.true()
    world.run(until=before)
    slow(world.box)
    with pytest.raises(GateHeld, match=r"the budget is \$40.00") as raised:
        world.run()
    assert "limits.budget_usd" in raised.value.remedy
    assert "disk kept" in raised.value.remedy
    (instance,) = world.market.rented.values()
    assert instance.status is InstanceStatus.STOPPED
    assert world.history.stage is stage
    assert _true_usd(world, began) < BUDGET_USD * 1.1
    assert world.provider.count("destroy") == 0


def test_a_package_whose_upload_used_the_budget_up_starts_no_training(world: World) -> None:
    world.run(until=Stage.PROVISION)

    def sent(event: JobEvent, done: bool) -> None:
        if done and isinstance(event, GateJudged) and world.history.passed(Stage.UPLOAD):
            world.clock.turn(10 * HOUR_S)

    with pytest.raises(GateHeld, match="the budget is"):
        world.run(on_record=sent)
    assert world.box.attempts == 0
    assert Launched not in world.kinds()


def test_a_download_that_was_held_at_the_cap_goes_on_when_that_is_raised(world: World) -> None:
    world.run(until=Stage.POSTTRAIN)
    _slow_transfer(world.box)
    with pytest.raises(GateHeld):
        world.run()
    with pytest.raises(GateHeld, match="the budget is"):
        world.run()
    assert world.provider.count("start") == 0, "the same command alone pays for nothing"
    world.box.transfer_s = 60.0
    limits = world.job.limits.model_copy(update={"budget_usd": 80.0})
    world.job = world.job.model_copy(update={"limits": limits})
    open_job(world.store, world.job, world.home / "job.toml", accept_changes=True)
    world.run()
    assert world.history.closed


def test_a_model_that_is_home_when_the_cap_is_reached_is_judged_and_its_instance_destroyed(world: World) -> None:
    """Nothing ends the bill sooner."""
    world.run(until=Stage.POSTTRAIN)

    def late(event: JobEvent, done: bool) -> None:
        if done and event.kind == "fetched":
            world.clock.turn(10 * HOUR_S)

    world.run(on_record=late)
    assert world.history.closed
    assert not world.market.rented


@pytest.mark.parametrize(("factor", "held"), [(1.005, False), (1.006, False), (10.0, True)])
def test_a_price_that_is_raised_in_mid_run_is_seen(world: World, factor: float, held: bool) -> None:
    world.box.takes = 20
    world.run(until=Stage.LAUNCH)

    def raised(event: JobEvent, done: bool) -> None:
        if done and event.kind == "stage":
            (only,) = world.market.rented
            world.market.change(only, usd_per_hour=PRICE * factor)

    world.box.looks = 0
    if not held:
        world.run(until=Stage.TRAINING, on_record=raised)
        return
    began = world.clock.true()
    with pytest.raises(GateHeld, match=r"\$159.00/h is billed, the cap is \$16.00/h") as caught:
        world.run(on_record=raised)
    assert "machine.max_usd_per_hour" in caught.value.remedy
    assert world.clock.true() - began < 120
    assert world.history.instance_stopped


def test_a_price_that_is_raised_within_the_jobs_cap_is_said_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"budget_usd": BUDGET_USD, "training_deadline_s": 5e5}
    world = make_world(tmp_path, monkeypatch, fast=True, limits=limits, machine={"max_usd_per_hour": 40.0})
    world.box.hangs = 9
    world.run(until=Stage.LAUNCH)
    (only,) = world.market.rented
    world.market.change(only, usd_per_hour=2 * PRICE)
    began = world.clock.true()
    with pytest.raises(GateHeld, match="the budget is"):
        world.run()
    assert (world.clock.true() - began) / HOUR_S * 2 * PRICE < BUDGET_USD * 1.05


@pytest.mark.parametrize("hours", [6.0, -6.0, 24 * 400.0])
@pytest.mark.parametrize("when", ["in mid-run", "between two runs", "before the rent"])
def test_a_clock_that_was_set_neither_stops_a_training_nor_lets_it_overspend(
    world: World, hours: float, when: str
) -> None:
    def set_it(event: JobEvent, done: bool) -> None:
        if done and when == "in mid-run" and event.kind == "stage" and world.history.stage is Stage.TRAINING:
            world.clock.set(hours * HOUR_S)

    if when == "before the rent":
        world.clock.set(hours * HOUR_S)
    began = world.clock.true()
    world.box.hangs = 9
    world.run(until=Stage.LAUNCH)
    if when == "before the rent":
        world.clock.set(0.0)
    elif when == "between two runs":
        world.clock.set(hours * HOUR_S)
    with pytest.raises(GateHeld, match="the budget is"):
        world.run(on_record=set_it)
    assert BUDGET_USD * 0.95 < _true_usd(world, began) < BUDGET_USD * 1.05


@pytest.mark.parametrize("hours", [6.0, -6.0, 24 * 400.0, 0.0])
def test_a_clock_that_is_always_off_stops_no_box_that_was_started_again(world: World, hours: float) -> None:
    """Two systems on one machine disagree about its clock's zone, and it stays so."""
    world.clock.set(hours * HOUR_S)
    world.box.hangs = 9
    world.run(until=Stage.LAUNCH)
    (only,) = world.market.rented
    context = world.context()
    context.record(InstanceStopped(only, "for the night"))
    world.market.stop(only)
    world.clock.turn(12 * HOUR_S)
    world.run(until=Stage.LAUNCH)
    with pytest.raises(Killed):
        world.run(on_record=_killed_when_training)
    began = world.clock.true()
    with pytest.raises(GateHeld, match="the budget is"):
        world.run()
    assert BUDGET_USD * 0.9 < _true_usd(world, began) < BUDGET_USD * 1.05


def _killed_when_training(event: JobEvent, done: bool) -> None:
    if done and event.kind == "stage":
        raise Killed


@pytest.mark.parametrize("when", ["in mid-run", "between two runs"])
def test_a_clock_that_disagrees_is_said(world: World, when: str) -> None:
    world.run(until=Stage.LAUNCH)

    def set_it(event: JobEvent, done: bool) -> None:
        if done and event.kind == "stage":
            world.clock.set(6 * HOUR_S)

    if when == "between two runs":
        world.clock.set(6 * HOUR_S)
    told = world.run(until=Stage.TRAINING, on_record=set_it if when == "in mid-run" else lambda _event, _done: None)
    assert [note for note in told.notes if "360 min ahead" in note and "do not go by it" in note]


def test_a_training_keeps_its_deadline_by_a_clock_that_nobody_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, limits={"training_deadline_s": 1800.0})
    world.box.hangs = 9
    world.run(until=Stage.LAUNCH)
    world.clock.turn(900)
    began = world.clock.true()
    world.clock.set(-6 * HOUR_S)
    with pytest.raises(GateHeld, match="takes longer than 1800 s"):
        world.run()
    assert 850 < world.clock.true() - began < 1900


def test_a_stop_is_asked_for_until_it_is_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine times refused, then accepted and not carried out for a while."""
    world = make_world(tmp_path, monkeypatch, fast=True, limits={"budget_usd": 2.0})
    world.box.hangs = 9
    world.provider.break_("stop", ProviderUnavailable("503"), times=9)
    world.provider.break_("stop", None, after=0, times=3)
    with pytest.raises(GateHeld, match="the budget is"):
        world.run()
    (instance,) = world.market.rented.values()
    assert instance.status is InstanceStatus.STOPPED
    assert world.kinds().count(InstanceStopped) == 1
    assert world.provider.count("stop") == 13


def test_a_stop_that_was_only_promised_is_not_recorded(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    world.clock.turn(10 * HOUR_S)
    world.provider.break_("stop", None, times=0)
    with pytest.raises(GateHeld, match=r"could not be stopped: it still bills \$15.90/h"):
        world.run()
    assert InstanceStopped not in world.kinds()


@pytest.mark.parametrize("death", [KeyboardInterrupt, Killed])
def test_a_process_that_ends_before_the_stop_says_what_bills(world: World, death: type[BaseException]) -> None:
    world.run(until=Stage.LAUNCH)
    world.clock.turn(10 * HOUR_S)
    world.provider.break_("stop", ProviderUnavailable("503"), times=3)
    world.provider.break_("stop", death(), after=0)
    if death is Killed:
        with pytest.raises(Killed):
            world.run()
    else:
        with pytest.raises(GateHeld, match=r"it still bills \$15.90/h") as raised:
            world.run()
        assert "harness run night" in raised.value.remedy
    with pytest.raises(GateHeld, match="the budget is"):
        world.run()
    (instance,) = world.market.rented.values()
    assert instance.status is InstanceStatus.STOPPED, "the next one stops it, first of all"


def test_an_instance_that_runs_again_behind_our_back_is_stopped_again(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    world.clock.turn(10 * HOUR_S)
    with pytest.raises(GateHeld):
        world.run()
    (only,) = world.market.rented
    world.market.start(only)
    with pytest.raises(GateHeld, match="the budget is"):
        world.run()
    assert world.market.rented[only].status is InstanceStatus.STOPPED


def test_a_provider_that_tells_no_time_leaves_the_log(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Market, "account", lambda _: Account(7, 100.0))
    world.run(until=Stage.LAUNCH)
    world.clock.turn(10 * HOUR_S)
    with pytest.raises(HarnessError, match=r"\$1[56]\d\.\d\d are spent"):
        world.run()


def test_what_the_provider_charged_is_spent_whatever_the_clocks_say(world: World) -> None:
    """Traffic and disk are billed beside the hours."""
    world.run(until=Stage.LAUNCH)
    world.market.usd = 41.0
    with pytest.raises(GateHeld, match=r"\$41.00 are spent"):
        world.run()


def test_most_of_the_budget_is_said_and_recorded_once(world: World) -> None:
    """At 15.90 USD an hour four fifths of 40 USD are gone after two hours."""
    world.run(until=Stage.LAUNCH)
    world.clock.turn(2.05 * HOUR_S)
    world.box.takes = 10
    told = world.run(until=Stage.TRAINING)
    near = [note for note in told.notes if "of the budget of $40.00 are spent" in note]
    assert len(near) == 1
    assert "the rest lasts" in near[0]
    (event,) = world.history.all(BudgetNear)
    assert 32 <= event.spent_usd < 40
    assert event.budget_usd == 40
    assert not [note for note in world.run().notes if "of the budget" in note]
    assert world.kinds().count(BudgetNear) == 1


def test_a_budget_that_was_raised_is_told_of_anew(world: World) -> None:
    world.box.hangs = 9
    world.run(until=Stage.LAUNCH)
    with pytest.raises(GateHeld, match="the budget is"):
        world.run()
    world.change(limits={"budget_usd": 80.0})
    with pytest.raises(GateHeld, match="the budget is"):
        world.run()
    assert [near.budget_usd for near in world.history.all(BudgetNear)] == [40.0, 80.0]
    assert [near.spent_usd >= 0.8 * near.budget_usd for near in world.history.all(BudgetNear)] == [True, True]


def test_a_run_that_spends_little_tells_nothing_of_its_budget(world: World) -> None:
    world.run()
    assert BudgetNear not in world.kinds()


def test_the_system_that_ends_a_process_is_told_what_bills_as_a_person_is(world: World) -> None:
    """SIGTERM comes as an interrupt that names it."""
    world.run(until=Stage.LAUNCH)
    world.clock.turn(10 * HOUR_S)
    world.provider.break_("stop", ProviderUnavailable("503"), times=3)
    world.provider.break_("stop", KeyboardInterrupt("SIGTERM"), after=0)
    with pytest.raises(GateHeld, match=r"it still bills \$15.90/h") as raised:
        world.run()
    assert "harness run night asks for the stop again" in raised.value.remedy


def _watch(world: World) -> tuple[BudgetWatch, Telling]:
    telling = Telling()
    return BudgetWatch(world.context(), telling), telling


def _rented(world: World) -> None:
    """A rent that the run itself records."""
    number = world.market.add(4711, "gsh-night-0a1b2c3d")
    told = dataclasses.asdict(offer())
    world.context().record(Rented(number, "gsh-night-0a1b2c3d", told, PRICE, world.market.user))


def test_before_a_rent_nothing_is_spent_and_nobody_is_asked(world: World) -> None:
    world.run(until=Stage.PREFLIGHT)
    asked = len(world.provider.calls)
    budget, telling = _watch(world)
    world.clock.turn(HOUR_S)
    budget.check(training=True)
    assert (budget.usd, budget.training_s, budget.left_s) == (0.0, 0.0, float("inf"))
    assert len(world.provider.calls) == asked
    assert telling.notes == []


def test_a_rent_between_two_looks_costs_from_its_time_on(world: World) -> None:
    world.run(until=Stage.PREFLIGHT)
    budget, _ = _watch(world)
    assert budget.usd == 0.0
    world.clock.turn(0.5 * HOUR_S)
    _rented(world)
    world.clock.turn(0.5 * HOUR_S)
    assert budget.usd == pytest.approx(PRICE / 2)
    world.clock.turn(HOUR_S)
    assert budget.usd == pytest.approx(1.5 * PRICE)


def test_what_was_stopped_between_two_looks_costs_until_it_was_looked_at(world: World) -> None:
    """In doubt whether it bills, it does; from then on it does not."""
    world.run(until=Stage.PREFLIGHT)
    budget, _ = _watch(world)
    assert budget.usd == 0.0
    _rented(world)
    world.clock.turn(HOUR_S)
    assert budget.usd == pytest.approx(PRICE)
    world.clock.turn(0.5 * HOUR_S)
    (only,) = world.market.rented
    world.context().record(InstanceStopped(only, "for the night"))
    assert budget.usd == pytest.approx(1.5 * PRICE)
    world.clock.turn(12 * HOUR_S)
    assert budget.usd == pytest.approx(1.5 * PRICE)
    world.context().record(InstanceStarted(only))
    assert budget.usd == pytest.approx(1.5 * PRICE)
    world.clock.turn(HOUR_S)
    assert budget.usd == pytest.approx(2.5 * PRICE)


def test_what_is_left_is_time_at_the_present_price_and_never_none(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    budget, _ = _watch(world)
    assert budget.left_s == pytest.approx((BUDGET_USD - budget.usd) / PRICE * HOUR_S)
    world.clock.turn(99 * HOUR_S)
    assert budget.left_s == 1.0


def test_a_glance_looks_once_a_second(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    budget, _ = _watch(world)
    world.market.usd = 41.0
    world.clock.turn(0.9)
    budget.glance()
    world.clock.turn(0.1)
    with pytest.raises(GateHeld, match=r"\$41.00 are spent"):
        budget.glance()


def test_a_launch_has_the_time_of_the_training_begin_anew(world: World) -> None:
    world.run(until=Stage.INSTALL)
    budget, _ = _watch(world)
    assert budget.training_s == 0.0
    world.clock.turn(100)
    world.context().record(Launched(("python3",), "launch"))
    assert budget.training_s == 0.0
    world.clock.turn(100)
    assert budget.training_s == 100.0
    later, _ = _watch(world)
    assert later.training_s == pytest.approx(100.0)
    world.context().record(Relaunched(("python3",), "it died"))
    assert budget.training_s == 0.0
    world.clock.turn(50)
    assert budget.training_s == 50.0


@pytest.mark.parametrize(("spent_s", "held"), [(500.0, False), (501.0, True)])
@pytest.mark.parametrize("training", [True, False])
def test_only_a_training_has_a_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spent_s: float, held: bool, training: bool
) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, limits={"training_deadline_s": 500.0})
    world.run(until=Stage.INSTALL)
    budget, _ = _watch(world)
    world.context().record(Launched(("python3",), "launch"))
    budget.check()
    world.clock.turn(spent_s)
    with pytest.raises(GateHeld, match="takes longer than 500 s") if held and training else contextlib.nullcontext():
        budget.check(training=training)


def test_a_price_is_told_when_it_rises_and_never_counted_as_less_than_agreed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"budget_usd": 1e4, "training_deadline_s": 5e5}
    world = make_world(tmp_path, monkeypatch, fast=True, limits=limits, machine={"max_usd_per_hour": 40.0})
    world.run(until=Stage.LAUNCH)
    budget, telling = _watch(world)
    (only,) = world.market.rented
    counted: list[float] = []
    for price in (PRICE, PRICE * 1.009, 20.0, 20.0, 10.0, 30.0, 40.0):
        world.clock.turn(world.job.limits.poll_s)
        world.market.change(only, usd_per_hour=price)
        budget.check()
        before = budget.usd
        world.clock.turn(HOUR_S)
        counted.append(round(budget.usd - before, 2))
    assert counted == [PRICE, 16.04, 20.0, 20.0, PRICE, 30.0, 40.0]
    assert telling.notes == [
        f"the price was raised: ${price:.2f}/h, $15.90/h was agreed" for price in (20.0, 30.0, 40.0)
    ]
    world.clock.turn(world.job.limits.poll_s)
    world.market.change(only, usd_per_hour=41.0)
    with pytest.raises(GateHeld, match=r"\$41.00/h is billed, the cap is \$40.00/h"):
        budget.check()


def test_the_instance_is_asked_for_as_often_as_the_job_looks_and_whoever_is_silent_holds_nothing(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    budget, telling = _watch(world)
    budget.check()
    asked = world.provider.count("instance")
    world.clock.turn(world.job.limits.poll_s - 1)
    budget.check()
    assert world.provider.count("instance") == asked
    world.provider.break_("instance", ProviderUnavailable("503"))
    world.clock.turn(1)
    budget.check()
    assert world.provider.count("instance") == asked + 1
    assert telling.notes == []
    assert InstanceStarted not in world.kinds(), "it runs, and was never stopped"


@pytest.mark.parametrize("method", ["account", "charges"])
def test_books_that_cannot_be_had_leave_what_the_log_says(world: World, method: str) -> None:
    world.run(until=Stage.LAUNCH)
    world.clock.turn(HOUR_S)
    world.market.usd = 30.0
    world.provider.break_(method, ProviderUnavailable("503"))
    assert PRICE <= _watch(world)[0].usd < PRICE + 1
    assert _watch(world)[0].usd == 30.0


@pytest.mark.parametrize(("seconds", "said"), [(121.0, "2 min ahead"), (-121.0, "2 min behind"), (119.0, None)])
@pytest.mark.parametrize("when", ["before", "in between"])
def test_clocks_that_are_two_minutes_apart_are_said_once(
    world: World, seconds: float, said: str | None, when: str
) -> None:
    world.run(until=Stage.LAUNCH)
    if when == "before":
        world.clock.set(seconds)
    budget, telling = _watch(world)
    budget.check()
    world.clock.set(seconds)
    for _ in range(3):
        world.clock.turn(5)
        budget.check()
    assert len(telling.notes) == (said is not None)
    assert said is None or said in telling.notes[0]
    if when == "in between" and said:
        world.clock.set(0.0)
        budget.check()
        assert ("behind" if "ahead" in said else "ahead") in telling.notes[1]


@pytest.mark.parametrize(("share", "told"), [(0.79, 0), (0.81, 1)])
def test_from_four_fifths_of_the_budget_on_its_end_is_near(world: World, share: float, told: int) -> None:
    world.run(until=Stage.LAUNCH)
    world.market.usd = share * BUDGET_USD
    for _ in range(2):
        budget, telling = _watch(world)
        budget.check()
        budget.check()
        assert len(telling.notes) <= told
    assert world.kinds().count(BudgetNear) == told


def test_of_what_stands_still_no_end_is_near(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    (only,) = world.market.rented
    world.market.usd = 0.9 * BUDGET_USD
    world.market.stop(only)
    world.context().record(InstanceStopped(only, "for the night"))
    _watch(world)[0].check()
    assert BudgetNear not in world.kinds()


def test_a_look_at_the_budget_keeps_half_a_lease_ahead(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(MemoryStore, "require_lease", lambda *_, within_s=0.0: asked.append(within_s))
    world.open()
    _watch(world)[0].check()
    assert asked == [LEASE_S / 2]


def test_every_word_is_passed_on_and_what_is_under_way_looks_at_the_budget(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    budget, _ = _watch(world)
    heard: list[object] = []

    class Heard(Telling):
        """Hears everything."""

        def stage(self, stage: Stage) -> None:
            heard.append(stage)

        def note(self, text: str) -> None:
            heard.append(text)

        def meter(self, meter: object, done: int, total: int, detail: str = "") -> None:
            heard.append((meter, done, total, detail))

        def judged(self, stage: Stage, judge: object) -> None:
            heard.append((stage, judge))

    told, result = WatchedReporter(Heard(), budget), gate(Stage.LAUNCH, world.job)
    told.stage(Stage.LAUNCH)
    told.note("a word")
    told.judged(Stage.LAUNCH, result)
    world.clock.turn(99 * HOUR_S)
    told.meter(UPLOAD, 9, 9, "done")
    with pytest.raises(GateHeld, match="the budget is"):
        told.meter(UPLOAD, 8, 9, "more")
    assert heard == [
        Stage.LAUNCH,
        "a word",
        (Stage.LAUNCH, result),
        (UPLOAD, 9, 9, "done"),
        (UPLOAD, 8, 9, "more"),
    ]
