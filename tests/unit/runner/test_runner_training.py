"""Launch and training: started once, stopped early when it is wrong, relaunched when it dies, never destroyed."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import GateHeld, GateUnknown, HostKeyChanged, InstanceDead, ProviderUnavailable
from harness.core.lifecycle import Stage
from harness.core.ports import InstanceStatus
from harness.core.verdict import Verdict
from harness.ledger.billing import spent
from harness.ledger.events import (
    GateJudged,
    Held,
    InstanceStarted,
    Launched,
    Polled,
    Relaunched,
    Trained,
    TrainingStopped,
)
from harness.ledger.kinds import JobEvent
from harness.ledger.noted import AtWork
from harness.log.launches import LaunchLine
from harness.runner import training
from harness.runner.checkpoint_mirror import Mirroring
from harness.runner.run import open_job
from harness.runner.spending import BudgetWatch
from tests.support.context import Killed, Telling, World, make_world
from tests.support.job_histories import check
from tests.support.scripted_world import Box

_STALLED = (check(Stage.TRAINING, "progress_is_advancing", Verdict.FAIL),)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(tmp_path, monkeypatch, fast=True)


def _nothing_destroyed(world: World) -> None:
    assert world.provider.count("destroy") == 0
    assert len(world.market.rented) == 1


def test_a_failed_launch_gate_stops_the_training_and_keeps_the_instance(world: World) -> None:
    world.gates[Stage.LAUNCH] = [(check(Stage.LAUNCH, "v2_forex_integration_logged", Verdict.FAIL),)]
    with pytest.raises(GateHeld, match="v2_forex_integration_logged"):
        world.run()
    assert not world.box.alive
    assert world.box.stops == 1
    assert TrainingStopped in world.kinds()
    assert world.provider.count("stop") == 0
    _nothing_destroyed(world)


def test_a_package_that_was_mended_is_checked_and_sent_anew_to_the_same_instance(world: World) -> None:
    world.gates[Stage.LAUNCH] = [(check(Stage.LAUNCH, "v2_forex_integration_logged", Verdict.FAIL),)]
    with pytest.raises(GateHeld):
        world.run()
    script = world.job.package.source / "train_deepseek_forex.py"
    script.write_text("# mended\n")
    told = world.run(until=Stage.LAUNCH)
    assert [stage for stage in told.stages if stage is not Stage.LAUNCH] == [
        Stage.PREFLIGHT,
        Stage.UPLOAD,
        Stage.INSTALL,
    ]
    assert (world.box.root / script.name).read_text() == "# mended\n"
    assert world.provider.count("create") == 1
    world.run()
    assert world.history.closed


def test_a_package_that_changes_once_the_training_runs_is_left_as_it_was_staged(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    (world.job.package.source / "train_deepseek_forex.py").write_text("# changed\n")
    world.run()
    assert world.history.closed
    assert world.judged.count(Stage.PREFLIGHT) == 1


def test_a_launch_gate_that_could_not_look_leaves_the_training_alone(world: World) -> None:
    unknown = (check(Stage.LAUNCH, "log_is_growing", Verdict.UNKNOWN),)
    world.gates[Stage.LAUNCH] = [unknown] * 3
    with pytest.raises(GateUnknown):
        world.run()
    assert world.box.stops == 0


def test_a_training_that_was_started_unrecorded_is_not_started_twice(world: World) -> None:
    def kill(event: JobEvent, done: bool) -> None:
        if isinstance(event, Launched) and not done:
            raise Killed

    with pytest.raises(Killed):
        world.run(on_record=kill)
    world.run(until=Stage.LAUNCH)
    assert world.box.attempts == 1
    assert world.history.launches == 1
    assert world.history.launched_at is not None


def test_a_dead_training_is_launched_again_as_often_as_the_job_allows(world: World) -> None:
    world.box.deaths = 2
    world.run(until=Stage.TRAINING)
    assert world.box.attempts == 3
    assert world.kinds().count(Relaunched) == 2
    assert world.history.passed(Stage.TRAINING)


def test_a_training_that_goes_on_dying_is_judged_at_last(world: World) -> None:
    world.box.deaths = 99
    world.gates[Stage.TRAINING] = [(check(Stage.TRAINING, "training_process_alive_or_done", Verdict.FAIL),)]
    with pytest.raises(GateHeld, match="training_process_alive_or_done"):
        world.run()
    assert world.box.attempts == 1 + world.job.limits.relaunches
    _nothing_destroyed(world)


def test_a_stalled_training_is_stopped_and_launched_again(world: World) -> None:
    world.box.hangs = 1
    world.gates[Stage.TRAINING] = [(), (), _STALLED]
    world.run(until=Stage.TRAINING)
    assert (world.box.stops, world.box.attempts) == (1, 2)


def test_a_fresh_attempt_has_its_own_time_to_speak(world: World) -> None:
    """The log of a hung attempt is old; that is no word about the one that was just launched."""
    world.box.hangs, world.box.takes = 1, 20
    world.gates[Stage.TRAINING] = [(), (), _STALLED, _STALLED, _STALLED]
    world.run(until=Stage.TRAINING)
    assert world.box.stops == 1


@pytest.mark.parametrize(
    "hopeless", ["loss_is_sane", "loss_moves", "learning_rate_follows_schedule", "preferences_are_learned"]
)
def test_a_course_that_is_lost_stops_the_training_for_good(world: World, hopeless: str) -> None:
    world.box.hangs = 9
    world.gates[Stage.TRAINING] = [(check(Stage.TRAINING, hopeless, Verdict.FAIL),)] * 2
    with pytest.raises(GateHeld, match=hopeless):
        world.run()
    assert (world.box.stops, world.box.attempts) == (1, 1)
    _nothing_destroyed(world)


def test_a_judgement_in_mid_training_opens_no_gate(world: World) -> None:
    world.box.hangs = 9

    def kill(event: JobEvent, done: bool) -> None:
        if isinstance(event, Polled) and done:
            raise Killed

    with pytest.raises(Killed):
        world.run(on_record=kill)
    assert Polled in world.kinds()
    assert world.history.stage is Stage.TRAINING
    assert Stage.TRAINING not in world.history.gates


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"budget_usd": 2.0}, r"the budget is \$2.00"),
        ({"training_deadline_s": 600.0}, "takes longer than 600 s"),
    ],
)
def test_a_used_up_limit_stops_the_instance_and_more_of_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, float], why: str
) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, limits=limits)
    world.box.hangs = 1
    with pytest.raises(GateHeld, match=why):
        world.run()
    (instance,) = world.market.rented.values()
    assert instance.status is InstanceStatus.STOPPED
    assert world.history.instance_stopped
    _nothing_destroyed(world)
    world.box.alive, world.box.exit_status = False, None  # what ran on the box died with its container
    before = spent(world.history, world.clock.now())
    world.clock.turn(10 * 3600)
    assert spent(world.history, world.clock.now()) == before, "a stopped instance's night counts as spent"
    raised = {name: value * 2 for name, value in limits.items()}
    world.job = world.job.model_copy(update={"limits": world.job.limits.model_copy(update=raised)})
    open_job(world.store, world.job, world.home / "job.toml", accept_changes=True)
    world.run()
    assert world.provider.count("start") == 1
    assert world.history.closed


def test_an_instance_that_cannot_be_stopped_is_said_to_bill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, limits={"budget_usd": 2.0})
    world.box.hangs = 1
    world.provider.break_("stop", ProviderUnavailable("503"), times=0)
    began = world.clock.monotonic()
    with pytest.raises(GateHeld, match=r"still bills \$15.90/h") as raised:
        world.run()
    assert "harness run night" in raised.value.remedy
    assert "console" in raised.value.remedy
    assert world.clock.monotonic() - began > 24 * 3600
    assert world.provider.count("stop") > 1000
    assert not world.history.instance_stopped


def test_one_refusal_to_stop_is_not_the_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, limits={"budget_usd": 2.0})
    world.box.hangs = 1
    world.provider.break_("stop", ProviderUnavailable("429"))
    with pytest.raises(GateHeld, match="the budget is"):
        world.run()
    assert world.history.instance_stopped


def test_a_box_that_is_silent_for_a_while_is_watched_on(world: World) -> None:
    silent = iter([True] * 4 + [False] * 9 + [True] * 999)
    world.run(until=Stage.LAUNCH)
    world.box.reachable = lambda: next(silent)
    world.run(until=Stage.TRAINING)
    assert world.history.passed(Stage.TRAINING)
    assert world.box.attempts == 1


def test_a_network_that_is_away_for_a_while_does_not_end_the_watch(world: World) -> None:
    world.box.takes = 20
    world.run(until=Stage.LAUNCH)
    looks = iter([True, True, False, False, False])
    world.box.reachable = lambda: next(looks, True)
    world.provider.break_("instance", ProviderUnavailable("GET /instances/ got no reply"), after=2, times=4)
    told = world.run(until=Stage.TRAINING)
    assert any("neither the box nor the provider" in note for note in told.notes)
    assert world.history.passed(Stage.TRAINING)
    assert Held not in world.kinds()


def test_the_old_training_does_not_go_on_under_a_mended_package(world: World) -> None:
    world.box.takes = 10**6
    world.gates[Stage.LAUNCH] = [(check(Stage.LAUNCH, "log_is_growing", Verdict.UNKNOWN),)] * 3
    with pytest.raises(GateUnknown):
        world.run()
    (world.job.package.source / "train_deepseek_forex.py").write_text("# mended\n")
    attempts, first = world.box.attempts, iter([False])
    world.box.reachable = lambda: next(first, True)
    world.run(until=Stage.LAUNCH)
    assert world.box.attempts == attempts + 1
    assert world.kinds().count(TrainingStopped) == 1


def test_an_instance_that_somebody_stops_in_mid_training_holds_the_job(world: World) -> None:
    world.box.hangs = 1
    world.run(until=Stage.LAUNCH)
    looks = 0

    def reachable() -> bool:
        nonlocal looks
        looks += 1
        if looks == 3:
            (only,) = world.market.rented
            world.market.stop(only)
        return looks < 3

    world.box.reachable = reachable
    with pytest.raises(GateHeld, match="and not by this job"):
        world.run()
    assert world.provider.count("start") == 0
    world.box.reachable = lambda: True
    world.box.alive, world.box.exit_status = False, None
    world.run()
    assert world.provider.count("start") == 1
    assert world.history.closed


def _goes_offline(world: World, back_after: int) -> list[int]:
    """In mid-training the host goes offline, until so many looks at the provider; counts the calls of the box."""
    calls = [0]
    (only,) = world.market.rented

    def reachable() -> bool:
        calls[0] += 1
        if calls[0] == 3:
            offline = replace(world.market.rented[only], status=InstanceStatus.OFFLINE)
            world.provider.break_("instance", offline, times=back_after)
        return not 3 <= calls[0] <= 4

    world.box.reachable = reachable
    return calls


def test_a_host_that_is_offline_for_a_while_is_waited_for_and_not_called(world: World) -> None:
    world.box.takes = 6
    world.run(until=Stage.LAUNCH)
    calls = _goes_offline(world, back_after=10)
    world.run(until=Stage.TRAINING)
    assert world.history.passed(Stage.TRAINING)
    assert calls[0] < 20
    assert not world.provider.faults[-1].strikes(), "it was looked at until it was back"
    assert world.provider.count("stop") == 0


def test_a_host_that_stays_offline_is_dead_and_stopped_lest_it_come_back_unwatched(world: World) -> None:
    world.box.hangs = 1
    world.run(until=Stage.LAUNCH)
    _goes_offline(world, back_after=9999)
    before = sum(world.clock.slept)
    with pytest.raises(InstanceDead, match="offline for more than 600 s"):
        world.run()
    assert 600 <= sum(world.clock.slept) - before < 700
    assert world.history.instance_stopped
    _nothing_destroyed(world)


def test_a_provider_that_is_away_for_a_moment_does_not_begin_the_count_anew(world: World) -> None:
    world.box.hangs = 1
    world.run(until=Stage.LAUNCH)
    _goes_offline(world, back_after=9999)
    world.provider.break_("instance", ProviderUnavailable("502"), after=20)
    before = sum(world.clock.slept)
    with pytest.raises(InstanceDead):
        world.run()
    assert 600 <= sum(world.clock.slept) - before < 700


def test_a_deadline_counts_while_the_host_is_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, limits={"training_deadline_s": 100.0})
    world.box.hangs = 1
    world.run(until=Stage.LAUNCH)
    _goes_offline(world, back_after=9999)
    with pytest.raises(GateHeld, match="takes longer than 100 s"):
        world.run()
    _nothing_destroyed(world)


def test_an_instance_that_somebody_stops_between_two_stages_holds_the_job(world: World) -> None:
    def stop(event: JobEvent, done: bool) -> None:
        if done and isinstance(event, GateJudged) and world.history.passed(Stage.LAUNCH):
            (only,) = world.market.rented
            world.market.stop(only)

    with pytest.raises(GateHeld, match="and not by this job"):
        world.run(on_record=stop)
    assert world.provider.count("start") == 0
    world.box.alive, world.box.exit_status = False, None
    world.run()
    assert world.provider.count("start") == 1
    assert world.history.closed


def test_an_instance_that_vanishes_in_mid_training_holds_the_job(world: World) -> None:
    world.box.hangs = 9
    world.run(until=Stage.LAUNCH)

    def gone() -> bool:
        world.market.rented.clear()
        return False

    world.box.reachable = gone
    with pytest.raises(ProviderUnavailable, match="shows no instance"):
        world.run()
    assert sum(world.clock.slept) < 600


@pytest.mark.parametrize("stage", [Stage.LAUNCH, Stage.TRAINING])
def test_a_box_that_shows_another_host_key_holds_the_job_at_once(world: World, stage: Stage) -> None:
    """No waiting mends it, and every hour of waiting is paid for."""
    world.box.hangs = 9
    began = {Stage.LAUNCH: Launched, Stage.TRAINING: GateJudged}[stage]

    def another(event: JobEvent, done: bool) -> None:
        if done and isinstance(event, began) and (stage is Stage.LAUNCH or world.history.passed(Stage.LAUNCH)):
            world.box.host_key = "ssh-ed25519 AAAA another"

    with pytest.raises(HostKeyChanged):
        world.run(on_record=another)
    assert world.history.stage is stage
    assert sum(world.clock.slept) < 600
    _nothing_destroyed(world)


def test_a_budget_that_is_used_up_starts_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command alone would pay for another boot, and stop again at once."""
    world = make_world(tmp_path, monkeypatch, fast=True, limits={"budget_usd": 2.0})
    world.box.hangs = 9
    for _ in range(2):
        with pytest.raises(GateHeld, match="the budget is"):
            world.run()
        (instance,) = world.market.rented.values()
        assert instance.status is InstanceStatus.STOPPED
    assert (world.provider.count("stop"), world.provider.count("start")) == (1, 0)


def test_a_start_behind_our_back_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, limits={"budget_usd": 2.0})
    world.box.hangs = 9
    with pytest.raises(GateHeld):
        world.run()
    (only,) = world.market.rented
    world.market.start(only)
    with pytest.raises(GateHeld):
        world.run()
    assert world.kinds().count(InstanceStarted) == 1
    assert world.market.rented[only].status is InstanceStatus.STOPPED


def test_the_end_of_the_training_is_when_it_ended_not_when_it_was_noticed(world: World) -> None:
    world.box.ended_s = 400.0
    world.run(until=Stage.TRAINING)
    (noticed,) = [record for record in world.history.records if record.kind == Trained.kind]
    assert world.history.all(Trained) == (Trained(noticed.at - 400),)
    assert world.history.trained_at == noticed.at - 400


def test_an_export_is_looked_at_more_often(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    world.box.takes, world.box.looks = 12, 0
    world.box.say("[dpo] COMPLETE 80/80 steps")
    before = len(world.clock.slept)
    world.run(until=Stage.TRAINING)
    assert max(world.clock.slept[before:]) <= 2.0
    assert world.job.limits.poll_s > 2.0


def test_the_progress_line_names_the_samples_a_second(world: World) -> None:
    """128 rows a step, 4.4 seconds a step."""
    told = world.run()
    steps = [detail for meter, detail in told.meters if meter == "steps"]
    assert steps
    assert set(steps) == {"sft loss 2.5, 29.1 samples/s"}


PROOF = "V2 FOREX INTEGRATION: 15300 SFT + 2550 DPO samples from YOUR data"
PLAN = (
    "PLAN sft_steps=330 dpo_steps=80 batch_size=32 checkpoint_every=100 lora_r=64 lora_alpha=128 dtype=bfloat16 "
    "world_size=1 device_map=auto devices=cuda:0"
)
STEP = "[sft] step 1/330 (0%) loss=2.5 lr=0.0001 s/step=4.4"


def _speaks_slowly(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """A training that says one of these at each look, and nothing by itself."""
    left, say, look = list(words), Box.say, Box.look

    def looked(self: Box) -> dict[str, object]:
        if left:
            say(self, left.pop(0))
        return look(self)

    monkeypatch.setattr(Box, "say", lambda *_: None)
    monkeypatch.setattr(Box, "look", looked)


def test_a_launch_is_over_with_the_first_step_and_tells_what_it_waits_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run(until=Stage.INSTALL)
    world.box.takes = 99
    _speaks_slowly(monkeypatch, "a warning", "importing", PROOF, PLAN, "loading", STEP)
    before = len(world.clock.slept)
    told = world.run(until=Stage.LAUNCH)
    assert [name for name, _ in told.meters if name.startswith("waiting")] == [
        "waiting for the log's proof line: libraries and data load",
        "waiting for the plan",
        "waiting for the first steps: the base model loads",
        "waiting for the first steps: the base model loads",
    ]
    assert world.clock.slept[before:] == [2.0] * 4
    assert world.history.passed(Stage.LAUNCH)


def test_a_training_that_says_nothing_is_waited_for_until_the_deadline_of_its_launch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, limits={"launch_deadline_s": 100.0})
    world.run(until=Stage.INSTALL)
    world.box.takes = 999
    _speaks_slowly(monkeypatch)
    shown: list[tuple[int, int]] = []
    monkeypatch.setattr(Telling, "meter", lambda _, _meter, done, total, _detail="": shown.append((done, total)))
    world.run(until=Stage.LAUNCH)
    assert shown == [(second, 100) for second in range(0, 100, 2)]


def test_a_launch_that_dies_before_its_first_word_is_not_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run(until=Stage.INSTALL)
    world.box.deaths, world.box.takes = 1, 3
    _speaks_slowly(monkeypatch)
    began = world.clock.monotonic()
    world.run(until=Stage.LAUNCH)
    assert world.clock.monotonic() - began < 60
    assert not world.box.alive


def test_a_budget_counts_while_a_launch_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, limits={"launch_deadline_s": 36000.0, "budget_usd": 2.0})
    world.run(until=Stage.INSTALL)
    world.box.takes = 10**6
    _speaks_slowly(monkeypatch)
    began, context, telling = world.clock.monotonic(), world.context(), Telling()
    with pytest.raises(GateHeld, match="the budget is"):
        training.launch(context, telling, BudgetWatch(context, telling))
    assert world.clock.monotonic() - began < 600
    assert world.history.instance_stopped


def test_a_strategy_is_not_proven_beside_a_training_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, training={"strategy": "ddp"})
    world.run(until=Stage.INSTALL)
    world.box.start()
    context, telling = world.context(), Telling()
    training.launch(context, telling, BudgetWatch(context, telling))
    assert world.box.begun["prove"] == 0
    assert [event.why for event in world.history.all(Launched)] == ["it was started before, and this was not recorded"]


@pytest.mark.parametrize(
    ("status", "how"), [(None, "was killed"), (1, "ended with status 1"), (137, "ended with status 137")]
)
def test_a_death_is_told_as_it_was(world: World, status: int | None, how: str) -> None:
    world.run(until=Stage.LAUNCH)
    world.box.alive, world.box.exit_status = False, status
    told = world.run(until=Stage.TRAINING)
    assert f"the training {how}: launching it again, it goes on from its newest complete checkpoint" in told.notes
    assert [event.why for event in world.history.all(Relaunched)] == [f"the training {how}"]


def test_after_its_last_launch_a_death_is_told_and_the_watch_is_over(world: World) -> None:
    world.box.deaths = 99
    told = world.run(until=Stage.TRAINING)
    launches = 1 + world.job.limits.relaunches
    assert f"the training ended with status 1, and has been launched {launches} times" in told.notes


def test_a_stop_that_fails_is_told_and_the_gate_holds_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(_: Box) -> None:
        raise ProviderUnavailable("nobody answers")

    world.box.hangs = 9
    world.gates[Stage.TRAINING] = [(check(Stage.TRAINING, "loss_is_sane", Verdict.FAIL),)] * 2
    monkeypatch.setattr(Box, "stop", silent)
    telling = Telling()
    world.run(until=Stage.LAUNCH)
    training.stop_training(world.context(), telling, "why")
    assert telling.notes == ["the training could not be stopped: nobody answers"]
    assert TrainingStopped not in world.kinds()


def test_a_stop_is_recorded_and_told_with_its_reason_and_what_stands_still_is_left(world: World) -> None:
    world.box.takes = 10**6
    world.run(until=Stage.LAUNCH)
    telling = Telling()
    for _ in range(2):
        training.require_stopped(world.context(), telling, "its package has changed")
    assert world.history.all(TrainingStopped) == (TrainingStopped("its package has changed", 143),)
    assert telling.notes == ["the training was stopped: its package has changed"]
    assert world.box.stops == 1


def test_a_training_is_judged_at_its_interval_and_looked_at_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, limits={"judge_every_s": 60.0, "poll_s": 20.0})
    world.run(until=Stage.LAUNCH)
    world.box.takes, world.box.looks = 10, 0
    before = len(world.clock.slept)
    at: list[float] = []

    def polled(event: JobEvent, done: bool) -> None:
        if done and isinstance(event, Polled):
            at.append(world.clock.monotonic())

    world.run(until=Stage.TRAINING, on_record=polled)
    assert world.clock.slept[before:] == [20.0] * 10
    assert [later - earlier for earlier, later in itertools.pairwise(at)] == [60.0, 60.0]


@pytest.mark.parametrize("status", [InstanceStatus.LOADING, InstanceStatus.UNKNOWN])
def test_an_instance_that_stays_away_otherwise_is_stopped_lest_it_come_back_unwatched(
    world: World, status: InstanceStatus
) -> None:
    world.box.hangs = 1
    world.run(until=Stage.LAUNCH)
    world.box.reachable = lambda: False
    (only,) = world.market.rented
    away = replace(world.market.rented[only], status=status)
    world.provider.break_("instance", away, after=2, times=200)
    began = world.clock.monotonic()
    with pytest.raises(GateHeld, match=f"does not run, for longer than {world.job.limits.stall_s:.0f} s") as held:
        world.run()
    assert "limits.stall_s" in held.value.remedy
    assert world.job.limits.stall_s <= world.clock.monotonic() - began
    assert world.history.instance_stopped


def test_what_the_training_is_at_is_recorded_once_each(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    world.box.takes, world.box.looks = 9, 0
    says = {3: "[sft] COMPLETE 330/330 steps", 6: "[dpo] COMPLETE 80/80 steps"}

    def look() -> bool:
        if line := says.pop(world.box.looks, None):
            world.box.say(line)
        return True

    world.box.reachable = look
    world.run(until=Stage.TRAINING)
    assert [event.part for event in world.history.all(AtWork)] == ["sft", "dpo", "export"]


def test_a_log_without_a_step_is_no_progress_to_show(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    (world.box.root / "training.log").write_text("words of libraries\n")
    told = world.run(until=Stage.TRAINING)
    assert not [one for one in told.meters if one[0] == "steps"]
    assert AtWork not in world.kinds(), "of what it is at nothing is told"


def test_a_checkpoint_comes_home_while_the_training_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[object] = []
    monkeypatch.setattr(Mirroring, "go_on", lambda _, seen: looks.append(seen.session.value))
    world.run(until=Stage.LAUNCH)
    world.box.takes, world.box.looks = 5, 0
    world.run(until=Stage.TRAINING)
    assert len(looks) == 5


def test_a_trainer_that_says_nothing_of_its_own_is_launched_behind_a_line_that_names_the_launch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, training={"log": "trainer"}, limits={"launch_deadline_s": 5.0})
    world.run(until=Stage.INSTALL)
    world.box.takes = 999
    _speaks_slowly(monkeypatch)
    context, telling = world.context(), Telling()
    training.launch(context, telling, BudgetWatch(context, telling))
    world.box.alive, world.box.exit_status = False, 1
    training.launch(context, telling, BudgetWatch(context, telling))
    assert {name for name, _ in telling.meters} == {
        "waiting for the first record of a step: libraries, data and the base model load"
    }
    command = world.job.training.command
    for number, one in enumerate(world.box.launched, start=1):
        shell, option, script, line, *argv = one["argv"]
        assert (shell, option, tuple(argv)) == ("sh", "-c", command)
        assert 'exec "$@"' in script
        assert line == str(LaunchLine("night", "4711", number))
        assert one["env"]["PYTHONUNBUFFERED"] == "1"
    assert len(world.box.launched) == 2
    assert [type(event) for event in (*world.history.all(Launched), *world.history.all(Relaunched))] == [
        Launched,
        Relaunched,
    ]
