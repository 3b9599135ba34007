"""Taking an instance over: recorded as what it is, safe to kill anywhere, and never a way around a gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.cli.orphans import survey
from harness.core import durable
from harness.core.errors import (
    BadInput,
    GateHeld,
    GateUnknown,
    HostUnreachable,
    NotProven,
    ProviderUnavailable,
    Refused,
    RemoteChanged,
)
from harness.core.ids import InstanceId
from harness.core.lifecycle import Stage
from harness.core.ports import DestroyReply, InstanceStatus
from harness.core.verdict import Verdict
from harness.gates.evidence import GateResult
from harness.job.model import Job
from harness.ledger.events import (
    Adopted,
    ArtifactRecorded,
    Destroyed,
    DestroyIntended,
    Fetched,
    Guarded,
    Launched,
    Opened,
    Pinned,
    Released,
    Rented,
    Reopened,
    Verified,
)
from harness.ledger.kinds import JobEvent
from harness.ledger.ownership import Standing
from harness.log.grammar import DPO, SFT
from harness.report import building
from harness.report.model import JobStanding, StageState
from harness.runner import adoption
from harness.runner import run as runner
from tests.support.context import Killed, Telling, World, make_world
from tests.support.job_histories import check

INSTANCE = InstanceId(4711)
FILE = Path("/home/me/night.toml")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """An instance that somebody rented by hand, without a label, its training over; no job knows of it."""
    made = make_world(tmp_path, monkeypatch, fast=True)
    made.market.add(INSTANCE, None)
    made.box.start()
    made.box.finish()
    return made


def _adopt(world: World) -> Job:
    """Begin the adoption; the world's job is the adopted one from then on. What the job file said."""
    told = world.job
    name = adoption.adopt(world.store, world.provider, told, FILE, INSTANCE)
    world.job = told.model_copy(update={"name": name, "adopted": True})
    return told


def _drive(world: World, on_record: Any = lambda _kind, _done: None) -> Telling:
    telling = Telling()
    context = world.context(on_record)
    runner.reopen_if_spoilt(context, telling)
    runner.run(context, telling, lambda _id, _file: "the test agrees")
    return telling


def test_it_is_judged_brought_home_and_destroyed(world: World) -> None:
    _adopt(world)
    telling = _drive(world)
    assert telling.stages == [Stage.POSTTRAIN, Stage.POSTDOWNLOAD, Stage.TEARDOWN]
    assert world.history.closed
    assert not world.market.rented
    assert world.history.verified is not None
    assert Path(world.history.verified.path).read_bytes() == world.box.artifact.read_bytes()
    kinds = world.kinds()
    assert kinds[:2] == [Opened, Adopted]
    assert Rented not in kinds
    assert Launched not in kinds
    assert kinds.index(Pinned) < kinds.index(ArtifactRecorded) < kinds.index(Verified) < kinds.index(DestroyIntended)


def test_the_log_says_what_was_seen_when_it_was_taken_over(world: World) -> None:
    _adopt(world)
    (adopted,) = world.history.all(Adopted)
    assert (adopted.label, adopted.owner, adopted.usd_per_hour) == ("", world.market.user, 15.9)
    assert world.history.job.adopted
    assert world.history.stage is Stage.POSTTRAIN
    (row,) = survey(world.provider, world.context().known())["instances"].get()
    assert row.standing is Standing.OWNED


def test_the_report_says_what_nobody_looked_at(world: World) -> None:
    _adopt(world)
    _drive(world)
    report = building.build(world.history, now=world.clock.now(), charges=None)
    states = {stage.stage: stage.state for stage in report.stages}
    passed = {Stage.POSTTRAIN, Stage.POSTDOWNLOAD, Stage.TEARDOWN}
    assert {stage for stage, state in states.items() if state is StageState.PASSED} == passed
    assert {stage for stage, state in states.items() if state is StageState.LEFT_OUT} == set(Stage) - passed
    (launch,) = [stage for stage in report.stages if stage.stage is Stage.LAUNCH]
    assert "v2_forex_integration_logged" in launch.left_out
    assert report.standing is JobStanding.CLOSED
    assert report.headline.startswith("Adopted: what came before the training's end was not looked at.")


@pytest.mark.parametrize("stage", [Stage.POSTTRAIN, Stage.POSTDOWNLOAD])
def test_a_gate_that_stays_shut_keeps_it_alive(world: World, stage: Stage) -> None:
    _adopt(world)
    bent = "adopted_run_is_as_planned" if stage is Stage.POSTTRAIN else "local_sha256_equals_remote"
    world.gates[stage] = [(check(stage, bent, Verdict.FAIL),)]
    with pytest.raises(GateHeld, match=bent):
        _drive(world)
    assert world.market.rented
    assert world.provider.count("destroy") == 0
    assert DestroyIntended not in world.kinds()
    report = building.build(world.history, now=world.clock.now(), charges=None)
    assert report.standing is JobStanding.HELD
    assert report.next_step == "harness destroy night-4711"


def test_a_label_that_changes_meanwhile_is_seen(world: World) -> None:
    _adopt(world)
    world.market.change(INSTANCE, label="somebody else's")
    with pytest.raises(Refused, match="carries the label"):
        _drive(world)
    assert world.market.rented


def test_an_artifact_that_is_written_anew_is_judged_anew(world: World) -> None:
    _adopt(world)
    world.box.on_fetch = lambda _: durable.write(world.box.artifact, b"GGUF another")
    with pytest.raises(RemoteChanged):
        _drive(world)
    assert world.market.rented
    assert world.history.stage is Stage.POSTTRAIN


@pytest.mark.parametrize(("shown", "why"), [(False, "shows no instance"), (True, "is user 7's")])
def test_what_cannot_be_ours_is_refused_and_leaves_no_job(world: World, shown: bool, why: str) -> None:
    if shown:
        table = world.job.provider.model_copy(update={"user_id": 8})
        world.job = world.job.model_copy(update={"provider": table})
    else:
        world.market.rented.clear()
    with pytest.raises(Refused, match=why):
        _adopt(world)
    assert world.store.jobs() == ()


def test_a_provider_that_cannot_be_asked_is_no_absence(world: World) -> None:
    world.provider.break_("instance", ProviderUnavailable("answered 404 auth_error"))
    with pytest.raises(ProviderUnavailable):
        _adopt(world)
    assert world.store.jobs() == ()


KINDS = (Pinned, ArtifactRecorded, Fetched, Verified, Released, Guarded, DestroyIntended, Destroyed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("done", [False, True])
def test_killed_anywhere_the_next_run_finishes(world: World, kind: type[JobEvent], done: bool) -> None:
    _adopt(world)

    def kill(event: JobEvent, after: bool) -> None:
        if (type(event), after) == (kind, done):
            raise Killed

    with pytest.raises(Killed):
        _drive(world, kill)
    _drive(world)
    assert world.history.closed
    assert world.provider.count("destroy") == 1
    assert world.kinds().count(Adopted) == 1


def test_a_destroy_that_was_not_carried_out_is_not_called_done(world: World) -> None:
    _adopt(world)
    world.provider.break_("destroy", DestroyReply.ACCEPTED)
    with pytest.raises(NotProven):
        _drive(world)
    assert world.history.alive is not None
    _drive(world)
    assert world.history.closed


def test_other_expectations_judge_everything_anew(world: World) -> None:
    told = _adopt(world)
    runner.run(world.context(), Telling(), lambda _id, _file: None, until=Stage.POSTDOWNLOAD)
    adoption.expect(world.context(), told, FILE)
    assert world.history.passed(Stage.POSTDOWNLOAD), "the same file changes nothing"
    stricter = told.model_copy(update={"training": told.training.model_copy(update={"steps": {SFT: 331, DPO: 80}})})
    adoption.expect(world.context(), stricter, FILE)
    assert world.history.stage is Stage.POSTTRAIN
    assert world.history.verified is None
    assert world.history.job.training.steps[SFT] == 331
    assert world.history.job.adopted


@pytest.mark.parametrize("killed_at", [Adopted, DestroyIntended])
def test_other_expectations_reopen_what_has_passed_and_nothing_once_it_is_being_destroyed(
    world: World, killed_at: type[JobEvent]
) -> None:
    told = _adopt(world)

    def kill(event: JobEvent, done: bool) -> None:
        if done and isinstance(event, killed_at):
            raise Killed

    if killed_at is not Adopted:
        with pytest.raises(Killed):
            _drive(world, kill)
    stricter = told.model_copy(update={"training": told.training.model_copy(update={"steps": {SFT: 331, DPO: 80}})})
    adoption.expect(world.context(), stricter, FILE)
    assert world.history.job.training.steps[SFT] == 331
    assert Reopened not in world.kinds()


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [("night", "4711", "night-4711"), ("n" * 60, "1", "n" * 40 + "-1"), ("night", "Ab9X", "night-ab9x")],
)
def test_it_goes_by_the_name_of_its_job_file_and_its_instance(
    world: World, name: str, number: str, expected: str
) -> None:
    job = world.job.model_copy(update={"name": name})
    assert adoption.adopted_name(job, InstanceId(number)) == expected


def test_taken_over_twice_it_is_one_job_and_shown_as_it_is_now(world: World) -> None:
    told = _adopt(world)
    world.market.change(INSTANCE, label="mine", status=InstanceStatus.STOPPED, usd_per_hour=3.0)
    adoption.adopt(world.store, world.provider, told, FILE, INSTANCE)
    assert world.kinds() == [Opened, Adopted, Adopted]
    first, second = world.history.all(Adopted)
    shown = world.market.rented[INSTANCE]
    offer = {"gpu_name": "H100 SXM", "num_gpus": 8, "machine_id": 12, "disk_gb": 150}
    offer["disk_usd_per_hour"] = shown.disk_usd_per_hour
    before, now = {**offer, "usd_per_hour": 15.9}, {**offer, "usd_per_hour": 3.0}
    owner, since = world.market.user, shown.started_at
    assert first == Adopted(INSTANCE, "", owner, 15.9, before, "running", since)
    assert second == Adopted(INSTANCE, "mine", owner, 3.0, now, "stopped", since)


def test_the_key_of_the_account_that_the_job_file_names_takes_it_over(world: World) -> None:
    table = world.job.provider.model_copy(update={"user_id": world.market.user})
    world.job = world.job.model_copy(update={"provider": table})
    _adopt(world)
    assert Adopted in world.kinds()


def test_it_is_not_looked_for_at_another_provider(world: World) -> None:
    told = _adopt(world)
    elsewhere = told.model_copy(update={"provider": told.provider.model_copy(update={"server_url": "http://x"})})
    with pytest.raises(Refused, match="another provider"):
        adoption.expect(world.context(), elsewhere, FILE)


@pytest.mark.parametrize("accept_changes", [False, True])
def test_no_job_file_turns_it_into_a_job_that_would_train_over_it(world: World, accept_changes: bool) -> None:
    told = _adopt(world)
    same_name = told.model_copy(update={"name": world.job.name})
    with pytest.raises(BadInput, match="took its instance over"):
        runner.open_job(world.store, same_name, FILE, accept_changes=accept_changes)


CHANGES = ("attach_key", "start", "stop", "destroy", "create")
"""Everything by which a provider's world is changed."""
AGAIN = "harness adopt --instance-id 4711 --job-file night.toml --check"


def _look(world: World) -> Telling:
    telling = Telling()
    adoption.look(world.context(), INSTANCE, telling, AGAIN)
    return telling


def test_a_look_judges_as_the_adoption_would_and_changes_nothing(world: World) -> None:
    _adopt(world)
    _look(world)
    assert world.judged == [Stage.POSTTRAIN]
    assert [world.provider.count(method) for method in CHANGES] == [0] * len(CHANGES)


@pytest.mark.parametrize(("verdict", "error"), [(Verdict.FAIL, GateHeld), (Verdict.UNKNOWN, GateUnknown)])
def test_a_look_says_what_would_hold_and_what_to_type(world: World, verdict: Verdict, error: type[GateHeld]) -> None:
    _adopt(world)
    bent = check(Stage.POSTTRAIN, "adopted_run_is_over", verdict, remedy="wait, then: harness destroy night-4711")
    world.gates[Stage.POSTTRAIN] = [(bent,)]
    with pytest.raises(error, match="adopted_run_is_over") as shut:
        _look(world)
    assert shut.value.remedy == f"wait, then: {AGAIN}"
    assert [world.provider.count(method) for method in CHANGES] == [0] * len(CHANGES)


@pytest.mark.parametrize("status", sorted(set(InstanceStatus) - {InstanceStatus.RUNNING}))
def test_a_look_starts_nothing(world: World, status: InstanceStatus) -> None:
    _adopt(world)
    world.market.change(INSTANCE, status=status)
    with pytest.raises(GateUnknown, match=f"is {status}: only one that runs") as shut:
        _look(world)
    assert AGAIN in shut.value.remedy
    assert world.judged == []
    assert [world.provider.count(method) for method in CHANGES] == [0] * len(CHANGES)


def test_a_look_at_one_that_is_gone_says_so(world: World) -> None:
    _adopt(world)
    world.market.rented.clear()
    with pytest.raises(GateUnknown, match="instance 4711 is gone: only one that runs"):
        _look(world)


def test_a_look_at_a_box_that_lets_nobody_in_is_over_before_anything_is_judged(world: World) -> None:
    _adopt(world)
    world.box.reachable = lambda: False
    with pytest.raises(HostUnreachable):
        adoption.reach(world.context(), INSTANCE, Telling(), AGAIN)


@pytest.mark.parametrize("shown", [True, False])
def test_a_look_believes_the_key_that_the_provider_shows_and_says_where_there_is_none(
    world: World, shown: bool
) -> None:
    _adopt(world)
    if not shown:
        world.provider.break_("host_keys", ProviderUnavailable("503"))
    telling = _look(world)
    assert (Pinned in world.kinds()) is shown
    assert any("the provider shows no host key" in note for note in telling.notes) is not shown


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.FAIL])
def test_a_look_tells_how_it_was_judged(world: World, monkeypatch: pytest.MonkeyPatch, verdict: Verdict) -> None:
    _adopt(world)
    commands = "harness destroy night-4711; harness ssh night-4711; harness logs night-4711"
    world.gates[Stage.POSTTRAIN] = [(check(Stage.POSTTRAIN, "adopted_run_is_over", verdict, remedy=commands),)]
    judged: list[tuple[Stage, GateResult]] = []
    monkeypatch.setattr(Telling, "judged", lambda _, stage, gate: judged.append((stage, gate)))
    if verdict is Verdict.PASS:
        _look(world)
    else:
        with pytest.raises(GateHeld):
            _look(world)
    ((stage, gate),) = judged
    assert (stage, gate.verdict) == (Stage.POSTTRAIN, verdict)
    (told,) = [one.remedy for one in gate.results if one.id == "adopted_run_is_over"]
    assert told == f"{AGAIN}; log in to the box; read training.log there"
