"""An instance that died: another takes its place only when it is proven gone, agreed to, and within the budget."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.errors import GateHeld, HostUnreachable, InstanceDead, NotProven, ProviderUnavailable, Refused
from harness.core.ids import InstanceId
from harness.core.lifecycle import Stage
from harness.core.ports import InstanceStatus, RemoteFile
from harness.facts.mirror import RUN_FILE, Resumable
from harness.guard import destroy
from harness.guard.destroy import LOSS_SENTENCE
from harness.ledger import billing
from harness.ledger.events import (
    DestroyIntended,
    GateJudged,
    Held,
    LossAccepted,
    Lost,
    PlanAgreed,
    Rented,
    RentIntended,
)
from harness.ledger.kinds import JobEvent
from harness.runner import adoption, replacement
from harness.runner import run as runner
from harness.runner.renting import RentPlan
from harness.runner.replacement import Agreement
from tests.support.context import Killed, Telling, World, make_world
from tests.support.scripted_world import offer
from tests.unit.runner.test_runner_checkpoint_mirror import checkpoint, watch

AGREED = Agreement(lambda _: "the test agrees", lambda _: False)
LOSSES = Agreement(lambda _: "the test agrees", lambda sentence: sentence == LOSS_SENTENCE.format(instance_id=4711))
CHECKPOINT = "models/output/sft/checkpoint-100"


def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, budget: float = 60.0, mirror: str = "resumable") -> World:
    """A job in mid-training, its checkpoint of step 100 mirrored."""
    limits = {"budget_usd": budget}
    world = make_world(tmp_path, monkeypatch, fast=True, limits=limits, training={"mirror": mirror})
    world.market.offers.append(offer(503))
    world.run(until=Stage.LAUNCH)
    (world.box.root / RUN_FILE).write_text("{}")
    checkpoint(world.box.root, "sft", 100)
    world.box.hangs = 9
    watch(world, 2)
    world.box.hangs = 0
    return world


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return make(tmp_path, monkeypatch)


def dies(world: World, *, after: float = 600.0) -> None:
    """Somebody else destroys the instance; what is rented next has an empty disk."""
    world.clock.turn(after)
    world.market.rented.clear()
    _emptied(world)


def goes_offline(world: World) -> None:
    world.clock.turn(600)
    world.market.change(InstanceId(4711), status=InstanceStatus.OFFLINE, status_message="no heartbeat")
    world.box.reachable = lambda: world.market.rented.get(InstanceId(4711)) is None


def _emptied(world: World) -> None:
    shutil.rmtree(world.box.root)
    world.box.root.mkdir()
    world.box.started = world.box.alive = False
    world.box.exit_status = None


def test_without_agreement_the_job_is_held_and_nothing_is_rented(world: World) -> None:
    dies(world)
    with pytest.raises(InstanceDead, match="shows no instance 4711"):
        world.run()
    assert world.provider.count("create") == 1
    assert world.history.alive is not None, "an instance that is not proven gone was forgotten"
    assert world.kinds()[-1] == Held


def test_another_takes_its_place_and_goes_on_from_the_mirror(world: World) -> None:
    dies(world)
    told = world.run(agreement=AGREED)
    kinds = world.kinds()
    assert kinds.count(Rented) == 2
    assert kinds.index(Lost) < len(kinds) - kinds[::-1].index(RentIntended)
    (lost,) = world.history.all(Lost)
    assert (lost.instance_id, lost.how) == (InstanceId(4711), "the test agrees")
    assert len(lost.absence["looks"]) >= 3
    assert (world.box.root / CHECKPOINT / "ref/adapter_model.safetensors").is_file()
    assert (world.box.root / RUN_FILE).is_file()
    assert world.history.resumes is not None
    assert world.history.resumes.steps == {"sft": 100}
    assert any("goes on from sft step 100" in note for note in told.notes)
    assert world.history.closed
    assert not world.market.rented


def test_the_machine_on_which_it_died_is_rented_last(world: World) -> None:
    dies(world)
    cheapest = dataclasses.replace(offer(504), usd_per_hour=10.0)
    world.market.offers = [cheapest, dataclasses.replace(offer(505), machine_id=13)]
    world.run(agreement=AGREED, until=Stage.POSTTRAIN)
    assert world.history.rental is not None
    assert world.history.rental.offer["machine_id"] == 13


def test_a_box_that_dies_in_mid_download_is_replaced_in_the_same_run(world: World) -> None:
    struck = False

    def dies_now(remote: RemoteFile) -> None:
        nonlocal struck
        if not struck and remote.path.endswith(".gguf"):
            struck = True
            dies(world)
            raise HostUnreachable("the connection was cut")

    world.box.on_fetch = dies_now
    told = world.run(agreement=AGREED)
    assert struck
    assert world.kinds().count(Rented) == 2
    assert any("goes on from sft step 100" in note for note in told.notes)
    assert world.history.closed


def test_a_box_that_only_does_not_answer_is_not_replaced(world: World) -> None:
    def fails(_remote: RemoteFile) -> None:
        raise HostUnreachable("the connection was cut")

    world.box.on_fetch = fails
    with pytest.raises(HostUnreachable, match="the connection was cut"):
        world.run(agreement=AGREED)
    assert world.provider.count("create") == 1
    assert world.provider.count("destroy") == 0


def test_what_the_dead_instance_cost_counts(world: World) -> None:
    dies(world, after=1800)
    before = billing.spent(world.history, world.clock.now())
    assert before is not None
    world.run(agreement=AGREED, until=Stage.POSTTRAIN)
    after = billing.spent(world.history, world.clock.now())
    assert after is not None
    world.clock.turn(360)
    assert billing.spent(world.history, world.clock.now()) == pytest.approx(after + 1.59)
    assert after >= before
    spans = billing.paid_spans(world.history.records, world.clock.now())
    assert len(spans) == 2
    assert spans[0].end <= spans[1].start


def test_over_the_budget_nothing_is_rented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(tmp_path, monkeypatch, budget=20.0)
    dies(world, after=1800)
    with pytest.raises(GateHeld, match=r"another one is over the budget: \$[0-9.]+ are spent") as raised:
        world.run(agreement=AGREED)
    assert "limits.budget_usd" in raised.value.remedy
    assert world.provider.count("create") == 1
    assert world.history.alive is not None
    assert Lost not in world.kinds()


def test_with_the_adapter_alone_it_says_that_it_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(tmp_path, monkeypatch, mirror="adapter")
    dies(world)
    told = world.run(agreement=AGREED)
    assert any("begins anew: nothing" in note for note in told.notes)
    assert not (world.box.root / CHECKPOINT).exists()
    directory = world.home / "jobs" / world.job.name
    (aside,) = directory.glob("mirror-of-earlier-*")
    assert (aside / "sft/checkpoint-100/adapter_model.safetensors").is_file()
    assert world.history.closed


def test_checkpoints_of_another_package_are_not_gone_on_from(world: World) -> None:
    dies(world)
    (world.job.package.source / "train_deepseek_forex.py").write_text("# another\n")
    told = world.run(agreement=AGREED)
    assert any("the package is another one" in note for note in told.notes)
    assert not (world.box.root / CHECKPOINT).exists()
    assert world.history.closed


def test_a_package_that_changed_since_is_agreed_to_with_the_steps_that_it_trains(world: World) -> None:
    dies(world)
    plans: list[RentPlan] = []

    def to_rent(plan: RentPlan) -> str:
        plans.append(plan)
        return "the test agrees"

    (world.job.package.source / "train_deepseek_forex.py").write_text("# another\n")
    world.run(agreement=Agreement(to_rent, AGREED.to_lose))
    assert ["the training goes on from sft step 100" in plan.meaning for plan in plans] == [True, False]
    assert "begins anew: the package is another one" in plans[-1].meaning
    assert plans[-1].forecasts[0].seconds > plans[0].forecasts[0].seconds


def test_after_an_abandonment_nothing_is_gone_on_from(world: World) -> None:
    """The mirror of the run that was given up stands in no later one's way, and is kept."""
    destroy.abandon(world.context(), LOSSES.to_lose, lambda _: None)
    _emptied(world)
    world.run()
    assert not (world.box.root / CHECKPOINT).exists()
    assert world.history.resumes is None
    assert len(list((world.home / "jobs" / world.job.name).glob("mirror-of-earlier-*"))) == 1
    assert world.history.closed


def test_one_that_runs_is_never_replaced(world: World) -> None:
    with pytest.raises(Refused, match="is running: nothing may take its place"):
        destroy.replace(world.context(), lambda _: True, lambda _: None, how="", machine_id=12, package=None)
    assert world.provider.count("destroy") == 0


def test_an_absence_that_cannot_be_proven_rents_nothing(world: World) -> None:
    dies(world)
    world.provider.break_("account", ProviderUnavailable("503"), times=0)
    with pytest.raises((NotProven, ProviderUnavailable)):
        world.run(agreement=AGREED)
    assert world.provider.count("create") == 1
    assert world.history.alive is not None


def test_another_account_sees_nothing_and_proves_nothing(world: World) -> None:
    dies(world)
    world.market.user = 8
    with pytest.raises(NotProven, match="belongs to user 8"):
        world.run(agreement=AGREED)
    assert world.provider.count("create") == 1


def test_an_offline_instance_is_not_dead_before_its_time(world: World) -> None:
    goes_offline(world)

    def comes_back(_plan: RentPlan) -> str:
        world.market.change(InstanceId(4711), status=InstanceStatus.RUNNING)
        world.box.reachable = lambda: True
        return "the test agrees"

    told = world.run(agreement=Agreement(comes_back, lambda _: True))
    assert any("is running again" in note for note in told.notes)
    assert world.provider.count("create") == 1
    assert world.history.closed


def test_an_offline_instance_is_given_up_for_the_typed_sentence_alone(world: World) -> None:
    goes_offline(world)
    with pytest.raises(Refused, match="may hold something of value") as raised:
        world.run(agreement=AGREED)
    assert LOSS_SENTENCE.format(instance_id=4711) in raised.value.remedy
    assert sum(world.clock.slept) >= world.job.limits.dead_after_s
    assert world.provider.count("destroy") == 0
    assert list(world.market.rented) == [InstanceId(4711)]

    def wiped(event: JobEvent, done: bool) -> None:
        if isinstance(event, Lost) and done:
            _emptied(world)

    world.run(agreement=LOSSES, on_record=wiped)
    kinds = world.kinds()
    assert kinds.index(LossAccepted) < kinds.index(DestroyIntended) < kinds.index(Lost)
    assert world.history.closed
    assert not world.market.rented


def test_an_instance_that_goes_offline_in_mid_training_is_not_watched_for_hours(world: World) -> None:
    looks = itertools.count()

    def reachable() -> bool:
        if next(looks) >= 3:
            world.market.change(InstanceId(4711), status=InstanceStatus.OFFLINE)
        return world.market.rented[InstanceId(4711)].status is InstanceStatus.RUNNING

    world.box.hangs, world.box.reachable = 9, reachable
    with pytest.raises(InstanceDead, match="offline for more than 600 s"):
        world.run()
    assert sum(world.clock.slept) < 1200


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", range(1, 38))
def test_killed_at_any_event_of_a_replacement(
    number: int, after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make(tmp_path, monkeypatch)
    dies(world)
    count, now = itertools.count(1), 0

    def kill(_event: JobEvent, done: bool) -> None:
        nonlocal now
        now = now if done else next(count)
        assert len(world.market.rented) <= 1
        if now == number and done is after:
            raise Killed

    try:
        world.run(agreement=AGREED, on_record=kill)
    except Killed:
        world.run(agreement=AGREED)
    assert world.history.closed
    assert world.kinds().count(Lost) == 1
    assert world.provider.count("create") == 2
    assert world.history.resumes is not None
    assert not world.market.rented


@pytest.mark.parametrize(("budget", "refusal"), [(12.0, GateHeld), (60.0, Refused)])
def test_a_replacement_that_is_refused_leaves_no_instance_to_come_back_unwatched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: float, refusal: type[Exception]
) -> None:
    world = make(tmp_path, monkeypatch, budget=budget)
    goes_offline(world)
    with pytest.raises(refusal):
        world.run(agreement=AGREED)
    assert world.market.rented[InstanceId(4711)].intended_status == "stopped"
    assert world.history.instance_stopped
    assert world.provider.count("destroy") == 0


def test_one_whose_destruction_was_asked_for_is_not_stopped_besides(world: World) -> None:
    """It is to be gone: a stop would only be asked for, for a day, of what no longer answers to one."""
    goes_offline(world)
    world.market.lag = 1000
    with pytest.raises(NotProven):
        world.run(agreement=LOSSES)
    assert world.history.destroy_intended
    assert world.history.alive is not None
    assert (world.provider.count("destroy"), world.provider.count("stop")) == (1, 0)

    def shown_a_while_yet(_plan: RentPlan) -> str:
        world.market.lag = 3
        world.market.change(InstanceId(4711), status=InstanceStatus.RUNNING)
        return "the test agrees"

    def wiped(event: JobEvent, done: bool) -> None:
        if isinstance(event, Lost) and done:
            _emptied(world)

    told = world.run(agreement=Agreement(shown_a_while_yet, LOSSES.to_lose), on_record=wiped)
    assert not any("again" in note for note in told.notes), told.notes
    assert world.kinds().count(Lost) == 1
    assert world.history.closed


def test_one_that_comes_back_while_a_person_types_is_not_given_up(world: World) -> None:
    goes_offline(world)

    def types(_: str) -> bool:
        world.clock.turn(60)
        world.market.change(InstanceId(4711), status=InstanceStatus.RUNNING, status_message="")
        world.box.reachable = lambda: True
        world.box.finish()
        return True

    with pytest.raises(Refused, match="has changed while its loss was being accepted: it is running now"):
        world.run(agreement=Agreement(lambda _: "the test agrees", types))
    assert world.provider.count("destroy") == 0
    assert world.box.artifact.exists()
    world.run(agreement=AGREED)
    assert world.history.closed
    assert world.kinds().count(Rented) == 1


def test_a_mirror_of_the_package_before_it_was_mended_is_not_this_ones(world: World) -> None:
    dies(world)

    def stop(event: JobEvent, done: bool) -> None:
        if isinstance(event, GateJudged) and not done and world.judged[-1] is Stage.LAUNCH:
            raise Killed

    with pytest.raises(Killed):
        world.run(agreement=AGREED, on_record=stop)
    (Path(world.job.package.source) / "train_deepseek_forex.py").write_text("# mended\n")
    told = world.run(agreement=AGREED, until=Stage.LAUNCH)
    assert any("the package is another one" in note for note in told.notes)
    assert not (world.context().directory / "mirror").exists()
    assert list(world.context().directory.glob("mirror-of-earlier-*/sft/checkpoint-100"))


def test_a_job_that_took_its_instance_over_rents_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.market.add(4711, None)
    name = adoption.adopt(world.store, world.provider, world.job, Path("/f.toml"), InstanceId(4711))
    world.job = world.job.model_copy(update={"name": name, "adopted": True})
    world.clock.turn(600)
    world.market.rented.clear()
    agreement = Agreement(lambda _: pytest.fail("a person was asked"), lambda _: False)
    with pytest.raises(InstanceDead):
        runner.run(world.context(), Telling(), lambda *_: "yes", agreement=agreement)
    assert Lost not in world.kinds()
    assert world.provider.count("create") == 0


@pytest.mark.parametrize(("lost", "repackaged"), [(True, False), (True, True), (False, False), (False, True)])
def test_only_the_dead_ones_own_checkpoints_are_gone_on_from(
    monkeypatch: pytest.MonkeyPatch, lost: bool, repackaged: bool
) -> None:
    mirrored = Resumable({"sft": 100}, {})
    monkeypatch.setattr(replacement, "to_resume", lambda _: mirrored)
    history = SimpleNamespace(lost=object() if lost else None, repackaged=repackaged)
    context: Any = SimpleNamespace(history=history)
    assert replacement.to_go_on_from(context) == (mirrored if lost and not repackaged else None)


@pytest.mark.parametrize(
    ("steps", "another", "told"),
    [
        (None, False, "the training begins anew: nothing that it could go on from is mirrored here"),
        ({"sft": 330, "dpo": 40}, False, "the training goes on from dpo step 40, which is mirrored here"),
        ({"sft": 330, "dpo": 40}, True, "the training begins anew: the package is another one"),
        (None, True, "the training begins anew: the package is another one"),
    ],
)
def test_it_is_told_from_where_the_training_goes_on(steps: dict[str, int] | None, another: bool, told: str) -> None:
    resume = None if steps is None else Resumable(steps, {})
    assert replacement.where_it_goes_on(resume, another=another) == told


def test_who_agreed_to_another_is_not_asked_for_it_twice(world: World) -> None:
    dies(world)
    asked: list[RentPlan] = []

    def agrees(plan: RentPlan) -> str:
        asked.append(plan)
        return "the test agrees"

    world.run(agreement=Agreement(agrees, lambda _: False))
    assert len(asked) == 1
    assert "instance 4711" in asked[0].meaning
    assert "the training goes on from sft step 100" in asked[0].meaning
    assert world.kinds().count(PlanAgreed) == 2
    assert world.history.closed
