"""The dead man's switch of a job: armed before anything trains, armed again, told of, and taken back at the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.clock import SystemClock
from harness.core.errors import BadInput, GateHeld, HostUnreachable, InstanceDead, LeaseLost, ProviderUnavailable
from harness.core.lifecycle import Stage
from harness.core.ports import InstanceStatus
from harness.core.verdict import Verdict
from harness.job.model import Job
from harness.ledger.billing import paid_spans
from harness.ledger.events import InstanceStarted, InstanceStopped, Launched, Rented, Trained
from harness.ledger.kinds import JobEvent
from harness.ledger.settled import SwitchArmed, SwitchFired
from harness.providers import registry
from harness.runner import switch
from harness.runner.provision import require_running
from tests.support.context import Killed, Telling, World, make_world
from tests.support.job_histories import check, job
from tests.support.scripted_keys import SECRET

AFTER_S = 900.0


def _world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **limits: Any) -> World:
    return make_world(tmp_path, monkeypatch, fast=True, limits={"stop_unheard_s": AFTER_S, **limits})


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return _world(tmp_path, monkeypatch)


def _armed_once(world: World) -> None:
    """One key at the provider, the same on the box and in the log, and nothing trains without it."""
    (number,) = world.keys.known
    assert world.keys.known[number] == f"gsh-switch-night-{world.history.alive.instance_id}"  # type: ignore[union-attr]
    assert world.box.switch == {"key_id": number, "key": f"{SECRET}-{number}", "after_s": AFTER_S}
    recorded = world.history.switch
    assert recorded is not None
    assert (recorded.key_id, recorded.after_s) == (number, AFTER_S)


def test_it_is_armed_before_the_launch_and_its_key_is_gone_at_the_end(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    kinds = world.kinds()
    assert kinds.index(SwitchArmed) < kinds.index(Launched)
    _armed_once(world)
    world.run()
    assert world.history.closed
    assert world.kinds().count(SwitchArmed) == 1
    assert world.keys.issued == 1
    assert world.keys.known == {}


def test_a_job_that_does_not_ask_for_it_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.keys.makes_keys = False
    world.run()
    assert world.history.closed
    assert (world.box.armed, world.keys.issued) == (0, 0)


def test_the_key_is_in_no_file_of_this_machine(world: World) -> None:
    told = world.run(until=Stage.TRAINING)
    assert SECRET not in "".join(told.notes)
    assert not any(SECRET in json.dumps(record.data) for record in world.store.records(world.job.name))
    files = [path for path in world.home.rglob("*") if path.is_file()]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize("moment", ["issue", "issued", "before it is recorded", "recorded", "before the launch"])
def test_killed_anywhere_one_key_and_one_switch_are_there_afterwards(world: World, moment: str) -> None:
    def kill(event: JobEvent, done: bool) -> None:
        at = {"before it is recorded": (SwitchArmed, False), "recorded": (SwitchArmed, True)}
        wanted, after = at.get(moment, (Launched, False))
        if moment not in {"issue", "issued"} and isinstance(event, wanted) and done is after:
            raise Killed

    def breaks(act: str) -> None:
        if act == moment:
            raise Killed

    world.keys.breaks = breaks
    with pytest.raises(Killed):
        world.run(on_record=kill)
    world.keys.breaks = lambda _: None
    world.run(until=Stage.LAUNCH)
    _armed_once(world)
    assert world.box.attempts == 1
    world.run()
    assert world.history.closed
    assert world.keys.known == {}


def test_a_box_that_reaches_nothing_holds_the_launch_and_its_key_is_deleted(world: World) -> None:
    world.box.trial = "URLError: no route to host"
    with pytest.raises(GateHeld, match="nothing is launched") as held:
        world.run()
    assert "no route to host" in str(held.value)
    assert "limits.stop_unheard_s" in str(held.value.remedy)
    assert (world.box.attempts, world.box.switch, world.keys.known) == (0, None, {})
    world.box.trial = 403
    world.run()
    assert world.history.closed


def test_a_provider_that_makes_no_such_key_holds_the_launch(world: World) -> None:
    def breaks(act: str) -> None:
        if act == "issue":
            raise ProviderUnavailable("429 too many requests")

    world.keys.breaks = breaks
    with pytest.raises(GateHeld, match="429"):
        world.run()
    assert (world.box.attempts, world.box.switch) == (0, None)


def test_a_key_that_may_make_no_others_is_told_before_anything_is_rented(world: World) -> None:
    world.keys.makes_keys = False
    with pytest.raises(BadInput, match="may make no other keys") as refused:
        world.run()
    assert "Or take limits.stop_unheard_s out of the job file" in str(refused.value.remedy)
    assert Rented not in world.kinds()
    world.keys.makes_keys, world.keys.place = True, None
    with pytest.raises(BadInput, match="no API key was found"):
        world.run()
    assert Rented not in world.kinds()


@pytest.mark.parametrize("kind", ["ssh", "runpod"])
def test_a_provider_without_such_keys_is_told_in_words(kind: str, tmp_path: Path) -> None:
    settings = registry.ProviderSettings(kind, tmp_path, SystemClock(), {"RUNPOD_API_KEY": "x"})
    with pytest.raises(BadInput, match="issues no key that can do nothing but stop one instance"):
        registry.open_stop_keys(settings)


@pytest.mark.parametrize("seconds", [299, 0, -1])
def test_a_silence_that_is_too_short_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="greater than or equal to 300"):
        job(limits={"stop_unheard_s": seconds})
    assert isinstance(job(limits={"stop_unheard_s": 300}), Job)


def test_a_silence_between_two_looks_is_refused() -> None:
    with pytest.raises(ValueError, match="between two looks"):
        job(limits={"stop_unheard_s": 300, "poll_s": 120})


def test_a_training_that_is_launched_again_is_still_watched(world: World) -> None:
    world.box.deaths = 1
    world.run(until=Stage.TRAINING)
    _armed_once(world)
    world.box.switch = None  # the container was made anew
    world.run(until=Stage.POSTTRAIN)
    _armed_once(world)
    assert world.keys.issued == 2


def test_where_it_cannot_be_armed_again_the_model_comes_home_all_the_same(world: World) -> None:
    world.run(until=Stage.TRAINING)
    world.box.switch, world.keys.makes_keys = None, False
    told = world.run()
    assert world.history.closed
    assert any("the box's switch is not as limits.stop_unheard_s asks" in note for note in told.notes)
    assert any("could not be deleted at the provider" in note for note in told.notes)


def test_a_package_that_is_mended_is_installed_without_a_switch_and_launched_with_one(world: World) -> None:
    world.gates[Stage.LAUNCH] = [(check(Stage.LAUNCH, "v2_forex_integration_logged", Verdict.FAIL),)]
    with pytest.raises(GateHeld):
        world.run()
    (world.job.package.source / "train_deepseek_forex.py").write_text("# mended\n")
    world.run(until=Stage.UPLOAD)
    assert world.box.switch is None
    world.run(until=Stage.LAUNCH)
    _armed_once(world)


def _stopped_by_itself(world: World, after_s: float, away_s: float, came: Any = None) -> float:
    """The operator is gone; the training ends, and the box stops itself so long after; when that was."""
    alive = world.history.alive
    assert alive is not None
    world.box.finish()
    world.clock.turn(after_s)
    at = world.clock.now()
    world.market.change(alive.instance_id, status=InstanceStatus.STOPPED, intended_status="stopped")
    world.clock.turn(away_s)
    world.box.said = {"at": at, "idle_s": AFTER_S, "came": came}
    return at


@pytest.mark.parametrize("came", [None, 200])
def test_a_box_that_had_stopped_itself_is_started_told_of_and_brought_home(world: World, came: Any) -> None:
    """The budget pays the hour of the training, and not the night that the box stood still."""
    world.run(until=Stage.LAUNCH)
    at = _stopped_by_itself(world, 1800, 9 * 3600, came)
    told = world.run()
    assert world.history.closed
    assert any("the box had stopped itself" in note for note in told.notes)
    (fired,) = world.history.all(SwitchFired)
    assert fired.at == pytest.approx(at, abs=30)
    kinds = world.kinds()
    assert kinds.index(InstanceStarted) < kinds.index(SwitchFired) < kinds.index(Trained)
    ran, again = (span for span in paid_spans(world.history.records, world.clock.now()) if span.end > span.start)
    assert ran.end == pytest.approx(at, abs=30)
    assert again.start - ran.end == pytest.approx(9 * 3600, abs=120), "of the disk alone, whose price is not known here"


def test_its_night_is_paid_in_later_runs_neither(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    _stopped_by_itself(world, 1800, 9 * 3600)
    world.run(until=Stage.TRAINING)
    world.clock.turn(60)
    world.run()
    assert world.history.closed
    assert world.kinds().count(SwitchFired) == 1


def test_each_stop_of_its_own_is_told_of_once(world: World) -> None:
    world.box.takes = 10**6
    world.run(until=Stage.LAUNCH)
    alive = world.history.alive
    assert alive is not None
    at: list[float] = []
    for _ in range(2):
        world.clock.turn(1800)
        at.append(world.clock.now())
        world.clock.turn(600)
        world.box.said = {"at": at[-1], "idle_s": AFTER_S, "came": 200}
        world.context().record(InstanceStarted(alive.instance_id))
        world.clock.turn(60)
        for _ in range(2):
            switch.arm(world.context(), Telling())
    assert [fired.at for fired in world.history.all(SwitchFired)] == pytest.approx(at)


@pytest.mark.parametrize(
    "said",
    [
        None,
        {"ago_s": 5.0, "idle_s": AFTER_S, "came": 403},
        {"ago_s": "x", "idle_s": AFTER_S, "came": None},
        {"ago_s": 9e9, "idle_s": AFTER_S, "came": None},
        {"ago_s": 0.0, "idle_s": AFTER_S, "came": 200},
        {"ago_s": float("inf"), "idle_s": AFTER_S, "came": 403},
        {"ago_s": float("nan"), "idle_s": AFTER_S, "came": None},
        {"ago_s": 5.0, "idle_s": 1e300, "came": [403]},
        {"ago_s": -1e9, "idle_s": AFTER_S, "came": None},
        {"ago_s": 86400.0, "idle_s": AFTER_S, "came": None},
        {"ago_s": 5.0, "idle_s": -1.0, "came": None},
        {"ago_s": 5.0, "idle_s": AFTER_S},
        {"ago_s": 5.0, "came": None},
        {"idle_s": AFTER_S, "came": None},
        [],
    ],
)
@pytest.mark.parametrize("stopped", [False, True], ids=["it ran on", "somebody stopped and started it"])
def test_what_the_box_says_of_a_stop_counts_only_where_it_may_be_so(world: World, said: Any, stopped: bool) -> None:
    world.run(until=Stage.LAUNCH)
    if stopped:
        _stopped_by_itself(world, 600, 600)
    world.box.said = said
    world.run()
    assert world.history.closed
    assert SwitchFired not in world.kinds()


def test_who_stays_at_his_machine_is_told_what_may_have_stopped_it(world: World) -> None:
    """The box cannot be reached, the provider can: in the midst of a stage nothing is started behind anybody's back."""
    world.run(until=Stage.LAUNCH)
    _stopped_by_itself(world, 1800, 0)
    world.box.reachable = lambda: False
    alive = world.history.alive
    assert alive is not None
    context = world.context()
    with pytest.raises(GateHeld, match="not by this job") as held:
        require_running(context)
    assert "limits.stop_unheard_s" in str(held.value.remedy)


def test_a_key_that_cannot_be_deleted_keeps_nobody_from_closing(world: World) -> None:
    world.run(until=Stage.POSTDOWNLOAD)

    def breaks(_: str) -> None:
        raise ProviderUnavailable("503")

    world.keys.breaks = breaks
    told = world.run()
    assert world.history.closed
    assert any("It can do nothing, for its instance is gone" in note for note in told.notes)


def test_the_name_of_a_key_is_its_job_s_and_its_instance_s(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    world.keys.known[1] = "gsh-switch-night-1"
    world.keys.known[2] = "gsh-switch-nights-4711"
    world.run()
    assert set(world.keys.known) == {1, 2}
    assert switch.key_name(world.job, world.history.all(Rented)[0].instance_id) == "gsh-switch-night-4711"


def test_a_line_that_is_taken_out_of_the_job_file_takes_the_switch_off(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    world.change(limits={"stop_unheard_s": None})
    world.run(until=Stage.TRAINING)
    assert world.box.switch is None
    assert world.history.switch is None
    world.change(limits={"stop_unheard_s": 600.0})
    world.run(until=Stage.POSTTRAIN)
    assert world.box.switch is not None
    assert world.box.switch["after_s"] == 600.0
    assert len(world.keys.known) == 1
    world.change(limits={"stop_unheard_s": 1200.0})
    world.run(until=Stage.POSTDOWNLOAD)
    assert (world.box.switch["after_s"], world.keys.issued) == (1200.0, 2)
    assert world.history.switch is not None
    assert world.history.switch.after_s == 1200.0
    world.run()
    assert world.keys.known == {}


@pytest.mark.parametrize(("came", "told"), [(403, True), ("URLError", True), (None, False), (200, False)])
def test_a_stop_that_was_refused_is_told_and_one_that_may_not_be_so_is_not(world: World, came: Any, told: bool) -> None:
    world.run(until=Stage.LAUNCH)
    world.clock.turn(600)
    world.box.said = {"ago_s": 5.0, "idle_s": AFTER_S, "came": came}
    notes = world.run(until=Stage.TRAINING).notes
    assert (f"the box tried to stop itself 5.0 s ago, and could not: {came}" in notes) is told
    assert not any("had stopped itself" in note for note in notes)


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize(
    ("error", "raised", "held"),
    [
        (LeaseLost("another has it"), True, False),
        (InstanceDead("gone"), True, False),
        (HostUnreachable("silent"), False, False),
        (ProviderUnavailable("503"), False, True),
        (BadInput("no"), False, True),
    ],
    ids=lambda one: type(one).__name__,
)
def test_what_keeps_it_from_being_armed_holds_a_launch_and_nothing_later(
    world: World, error: Exception, raised: bool, held: bool, required: bool
) -> None:
    world.run(until=Stage.INSTALL)

    def breaks(_: str) -> None:
        raise error

    world.keys.breaks, telling = breaks, Telling()
    if raised or required:
        with pytest.raises(GateHeld if held else type(error)) as caught:
            switch.arm(world.context(), telling, required=required)
        assert not held or str(error) in str(caught.value)
        assert telling.notes == []
    else:
        switch.arm(world.context(), telling)
        assert telling.notes == [f"the box's switch is not as limits.stop_unheard_s asks for it: {error}"]
    assert world.history.switch is None


def test_a_job_that_never_asked_for_it_asks_nobody_about_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.keys.makes_keys = False
    assert not [note for note in world.run().notes if "key" in note and "deleted" in note]


def test_the_key_of_the_instance_that_is_alive_is_kept(world: World) -> None:
    world.run(until=Stage.TRAINING)
    kept = dict(world.keys.known)
    switch.revoke(world.context(), pytest.fail)
    assert kept
    assert world.keys.known == kept


@pytest.mark.parametrize("status", list(InstanceStatus))
def test_only_one_that_stands_still_by_its_own_switch_ran_until_it_was_seen_last(
    world: World, status: InstanceStatus
) -> None:
    world.run(until=Stage.LAUNCH)
    seen = world.store.records(world.job.name)[-1].at
    (number,) = world.market.rented
    world.clock.turn(3600)
    world.market.change(number, status=status)
    shown = world.market.rented[number]
    stands = status in {InstanceStatus.STOPPED, InstanceStatus.EXITED}
    assert switch.ran_until(world.history, shown) == (seen if stands else None)
    assert switch.ran_until(world.history, None) is None
    world.context().record(InstanceStopped(number, "for the night"))
    assert switch.ran_until(world.history, shown) is None


def test_a_job_without_a_switch_ran_until_nobody_knows_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.run(until=Stage.LAUNCH)
    (number,) = world.market.rented
    world.market.stop(number)
    assert switch.ran_until(world.history, world.market.rented[number]) is None
