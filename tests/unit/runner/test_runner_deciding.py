"""What the loop decides from what it knows: when it looks again, goes back, needs the box, or asks for agreement."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.context import RunnerContext
from harness.core.errors import (
    GateHeld,
    GateUnknown,
    HarnessError,
    HostUnreachable,
    InstanceDead,
    LocalDiskFull,
    StoreFailed,
)
from harness.core.ids import CheckId
from harness.core.lifecycle import ORDER, Stage
from harness.core.observed import CouldNotLook
from harness.core.verdict import Verdict
from harness.gates import judge
from harness.gates.evidence import CheckResult, GateResult
from harness.ledger.events import GateJudged, Held, Polled, Reopened, Verified
from harness.runner import postdownload, provision, replacement, stopping, switch, training
from harness.runner import run as runner
from tests.support.context import RENTS, Telling
from tests.support.facts import sound_job
from tests.support.fake_clock import FakeClock

PASS, FAIL, UNKNOWN = Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN


def gate(verdict: Verdict, *problems: str, **result: Any) -> GateResult:
    one = CheckResult(CheckId("one"), "upload", "a claim", verdict, **{"message": " why ", "remedy": "do it", **result})
    return GateResult("upload", "d", (CheckId("one"),), (one,), problems)


class Desk:
    """A context of what is known alone; what is recorded and forgotten is listed."""

    def __init__(self, **history: Any) -> None:
        self.clock, self.job, self.reporter = FakeClock(), sound_job(), Telling()
        self.recorded, self.forgotten = list[object](), 0
        known = {"artifact": None, "destroyed": None, "destroy_intended": False, "fetched": None, "verified": None}
        self.history = SimpleNamespace(**{**known, "passed": lambda _: False, "stage": Stage.UPLOAD, **history})
        self.store_is_full = False

    def __call__(self) -> RunnerContext:
        return cast("RunnerContext", self)

    def record(self, event: object) -> None:
        if self.store_is_full:
            raise StoreFailed("no room")
        self.recorded.append(event)

    def forget_connections(self) -> None:
        self.forgotten += 1


# --- a gate ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "verdicts", "looks", "passes"),
    [
        (Stage.UPLOAD, [PASS], 1, True),
        (Stage.UPLOAD, [FAIL, PASS], 1, False),
        (Stage.UPLOAD, [UNKNOWN, PASS], 2, True),
        (Stage.UPLOAD, [UNKNOWN, UNKNOWN, PASS], 3, True),
        (Stage.UPLOAD, [UNKNOWN, UNKNOWN, UNKNOWN, PASS], 3, False),
        (Stage.UPLOAD, [UNKNOWN, FAIL, PASS], 2, False),
        (Stage.PREFLIGHT, [UNKNOWN, PASS], 1, False),
    ],
)
def test_what_is_unknown_is_looked_at_again_over_new_connections_and_after_a_while(
    monkeypatch: pytest.MonkeyPatch, stage: Stage, verdicts: list[Verdict], looks: int, passes: bool
) -> None:
    desk, told = Desk(), iter(verdicts)
    monkeypatch.setattr(runner, "judge", lambda *_: gate(next(told)))
    if passes:
        runner._pass_gate(stage, desk(), desk.reporter)
    else:
        last = verdicts[looks - 1]
        with pytest.raises(GateHeld if last is FAIL else GateUnknown, match=r"is held: one \(why\)"):
            runner._pass_gate(stage, desk(), desk.reporter)
    assert len(list(told)) == len(verdicts) - looks
    assert (desk.clock.slept, desk.forgotten) == ([3.0] * (looks - 1), looks - 1)


@pytest.mark.parametrize("kind", [GateJudged, Polled])
def test_what_was_decided_is_recorded_with_the_facts_that_it_rests_on(
    monkeypatch: pytest.MonkeyPatch, kind: type[GateJudged | Polled]
) -> None:
    desk, told = Desk(), list[object]()
    monkeypatch.setattr(desk, "take_facts", lambda _: SimpleNamespace(path=Path("f.json"), sha256="s"), raising=False)
    monkeypatch.setattr(judge, "demand", lambda *_: "the demand")
    monkeypatch.setattr(judge, "judge", lambda _: gate(FAIL))
    monkeypatch.setattr(Telling, "judged", lambda _, *said: told.append(said))
    assert runner.judge(Stage.UPLOAD, desk(), desk.reporter, judged=kind) == gate(FAIL)
    (event,) = desk.recorded
    assert isinstance(event, kind)
    assert (event.stage, event.verdict, event.facts_path, event.facts_sha256) == (Stage.UPLOAD, FAIL, "f.json", "s")
    assert (event.demand, event.plan_digest) == ("the demand", "d")
    assert event.result is not None
    assert event.result["results"][0]["id"] == "one"
    assert told == [(Stage.UPLOAD, gate(FAIL))]


@pytest.mark.parametrize(
    ("stage", "verdict", "stops"),
    [(Stage.LAUNCH, FAIL, True), (Stage.LAUNCH, UNKNOWN, False), (Stage.TRAINING, FAIL, False)],
)
def test_a_training_is_stopped_when_its_launch_failed_and_not_when_it_could_not_be_seen(
    monkeypatch: pytest.MonkeyPatch, stage: Stage, verdict: Verdict, stops: bool
) -> None:
    desk, why = Desk(), list[str]()
    monkeypatch.setattr(runner, "judge", lambda *_: gate(verdict))
    monkeypatch.setattr(training, "stop_training", lambda _c, _r, said: why.append(said))
    with pytest.raises(HarnessError):
        runner._pass_gate(stage, desk(), desk.reporter)
    assert why == (["the launch gate failed"] if stops else [])


@pytest.mark.parametrize(
    ("stage", "fetched", "verified", "recorded"),
    [
        (Stage.POSTDOWNLOAD, "a", None, True),
        (Stage.POSTDOWNLOAD, "a", "a", False),
        (Stage.POSTDOWNLOAD, "a", "b", True),
        (Stage.POSTDOWNLOAD, None, None, False),
        (Stage.UPLOAD, "a", None, False),
    ],
)
def test_only_postdownloads_gate_verifies_the_file_that_came(
    monkeypatch: pytest.MonkeyPatch, stage: Stage, fetched: str | None, verified: str | None, recorded: bool
) -> None:
    def file(path: str | None) -> Any:
        return None if path is None else SimpleNamespace(path=Path(path), size=1, sha256="s")

    desk = Desk(fetched=file(fetched), verified=file(verified))
    monkeypatch.setattr(runner, "judge", lambda *_: gate(PASS))
    runner._pass_gate(stage, desk(), desk.reporter)
    assert desk.recorded == ([Verified("a", 1, cast("Any", "s"))] if recorded else [])


def test_all_that_keeps_a_gate_shut_is_told_and_the_first_remedy_is_the_next_step() -> None:
    two = GateResult(
        "upload",
        "d",
        (CheckId("a"), CheckId("b"), CheckId("c")),
        (
            CheckResult(CheckId("a"), "upload", "", UNKNOWN, remedy="look"),
            CheckResult(CheckId("b"), "upload", "", FAIL, message="x" * 300),
        ),
        ("a worker died",),
    )
    error = runner.shut_gate(Stage.UPLOAD, two)
    assert isinstance(error, GateHeld)
    assert str(error) == f"stage upload is held: a worker died; b ({'x' * 200}…); a; c did not report"
    assert error.remedy == "look"
    assert isinstance(runner.shut_gate(Stage.UPLOAD, gate(UNKNOWN)), GateUnknown)


# --- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [(GateHeld("x"), GateHeld), (CouldNotLook("x"), GateUnknown), (OSError(28, "x"), LocalDiskFull)],
)
def test_whatever_kept_a_stage_from_being_passed_has_a_remedy(error: Any, kind: type[HarnessError]) -> None:
    told = runner._explained(error)
    assert type(told) is kind
    assert (told is error) == isinstance(error, HarnessError)
    assert told.remedy


def test_that_the_job_is_held_is_recorded_and_a_full_log_hides_no_cause() -> None:
    desk = Desk()
    runner._record_held(desk(), desk.reporter, Stage.UPLOAD, GateHeld("x" * 5000))
    assert desk.recorded == [Held(Stage.UPLOAD, "GateHeld", "x" * 4000 + "…")]
    desk.store_is_full = True
    runner._record_held(desk(), desk.reporter, Stage.UPLOAD, GateHeld("x"))
    assert desk.reporter.notes == ["the event log does not take that the job is held: no room"]


# --- going back -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "problem", "gone", "back"),
    [
        ({}, "it is gone", False, True),
        ({}, None, False, False),
        ({"artifact": None}, "it is gone", False, False),
        ({"passed": lambda _: False}, "it is gone", False, False),
        ({"destroyed": object()}, "it is gone", False, False),
        ({"destroy_intended": True}, "it is gone", False, True),
        ({"destroy_intended": True}, "it is gone", True, False),
        ({}, "it is gone", True, True),
    ],
)
def test_a_spoilt_file_is_fetched_again_while_the_instance_may_have_it(
    monkeypatch: pytest.MonkeyPatch, history: dict[str, Any], problem: str | None, gone: bool, back: bool
) -> None:
    desk = Desk(**{"artifact": object(), "passed": lambda stage: stage is Stage.POSTDOWNLOAD, **history})
    monkeypatch.setattr(postdownload, "local_problem", lambda *_: problem)
    monkeypatch.setattr(provision, "gone_by_now", lambda _: gone)
    runner.reopen_if_spoilt(desk(), desk.reporter)
    assert desk.recorded == ([Reopened(Stage.POSTDOWNLOAD, "it is gone")] if back else [])
    assert desk.reporter.notes == (["it is gone: going back to fetch and verify it again"] if back else [])


@pytest.mark.parametrize("stage", [*ORDER, None])
@pytest.mark.parametrize("staged", [True, False])
def test_a_package_may_change_until_the_training_has_passed_its_launch(
    monkeypatch: pytest.MonkeyPatch, stage: Stage | None, staged: bool
) -> None:
    looked, stopped = list[object](), list[str]()
    monkeypatch.setattr(runner, "_stands", lambda *_: looked.append(1))
    monkeypatch.setattr(training, "stop_training", lambda _c, _r, why: stopped.append(why))
    desk = Desk(stage=stage, staged=SimpleNamespace(files={}) if staged else None, launches=1, passed=lambda _: True)
    runner.reopen_if_mended(desk(), desk.reporter)
    may = staged and stage in {Stage.PROVISION, Stage.UPLOAD, Stage.INSTALL, Stage.LAUNCH}
    assert bool(looked) == may
    back = [Reopened(one, "the package has changed") for one in (Stage.LAUNCH, Stage.INSTALL, Stage.UPLOAD)]
    assert desk.recorded == ([*back, Reopened(Stage.PREFLIGHT, "the package has changed")] if may else [])
    assert stopped == (["its package has changed"] if may else [])


@pytest.mark.parametrize(("changed", "back"), [(True, True), (False, False)])
def test_a_changed_job_file_alone_goes_back_to_preflight(
    monkeypatch: pytest.MonkeyPatch, changed: bool, back: bool
) -> None:
    monkeypatch.setattr(runner, "_stands", lambda *_: True)
    monkeypatch.setattr(runner, "_configured_since_preflight", lambda _: changed)
    desk = Desk(staged=SimpleNamespace(files={}), launches=0)
    runner.reopen_if_mended(desk(), desk.reporter)
    assert desk.recorded == ([Reopened(Stage.PREFLIGHT, "the job file has changed")] if back else [])


# --- the box --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "artifact", "problem", "needs"),
    [
        (Stage.PREFLIGHT, None, None, False),
        (Stage.PROVISION, None, None, False),
        (Stage.UPLOAD, None, None, True),
        (Stage.TRAINING, object(), None, True),
        (Stage.POSTDOWNLOAD, None, None, True),
        (Stage.POSTDOWNLOAD, object(), None, False),
        (Stage.POSTDOWNLOAD, object(), "it is gone", True),
        (Stage.TEARDOWN, object(), "it is gone", False),
    ],
)
def test_a_stage_needs_the_box_unless_all_of_it_is_here(
    monkeypatch: pytest.MonkeyPatch, stage: Stage, artifact: object, problem: str | None, needs: bool
) -> None:
    monkeypatch.setattr(postdownload, "local_problem", lambda *_: problem)
    assert runner._needs_the_box(stage, Desk(artifact=artifact)()) is needs


class Watched(Telling):
    """A reporter with a budget that lists each check of it."""

    def __init__(self, acts: list[str]) -> None:
        super().__init__()
        self.budget = SimpleNamespace(check=lambda: acts.append("budget"), usd=1.0)


@pytest.mark.parametrize(
    ("stage", "acts"),
    [
        (Stage.PREFLIGHT, ["act"]),
        (Stage.PROVISION, ["budget", "act"]),
        (Stage.UPLOAD, ["budget", "resume", "act"]),
        (Stage.TRAINING, ["budget", "resume", "arm", "act"]),
        (Stage.POSTTRAIN, ["budget", "resume", "arm", "act"]),
        (Stage.TEARDOWN, ["act"]),
    ],
)
def test_before_a_stage_works_on_the_box_its_budget_instance_and_switch_are_looked_at(
    monkeypatch: pytest.MonkeyPatch, stage: Stage, acts: list[str]
) -> None:
    done = list[str]()
    scripted(monkeypatch, done)
    assert runner._acted(stage, Desk(stage=stage)(), watched(done), cast("Any", None), RENTS, commanded=True)
    assert done == acts
    done.clear()
    assert not runner._acted(stage, Desk(stage=Stage.LAUNCH)(), watched(done), cast("Any", None), RENTS, commanded=True)


def watched(done: list[str]) -> Any:
    return Watched(done)


def scripted(monkeypatch: pytest.MonkeyPatch, done: list[str], error: Exception | None = None) -> None:
    def act(*_: object) -> None:
        done.append("act")
        if error is not None:
            raise error

    def resume(*_: object, may_start: bool) -> None:
        done.extend(["resume"] * may_start)

    monkeypatch.setattr(provision, "resume", resume)
    monkeypatch.setattr(switch, "arm", lambda *_: done.append("arm"))
    monkeypatch.setattr(runner, "_act", act)


@pytest.mark.parametrize(
    ("error", "replaced", "acts"),
    [
        (InstanceDead("it died"), True, ["budget", "resume", "act", "replace"]),
        (InstanceDead("it died"), False, ["budget", "resume", "act", "replace"]),
        (HostUnreachable("cut"), True, ["budget", "resume", "act", "budget", "replace"]),
        (HostUnreachable("cut"), False, ["budget", "resume", "act", "budget", "replace"]),
    ],
)
def test_a_box_that_is_lost_in_mid_act_is_replaced_or_its_loss_is_raised(
    monkeypatch: pytest.MonkeyPatch, error: Exception, replaced: bool, acts: list[str]
) -> None:
    """A box that does not answer may have been stopped over the budget: then that is said."""
    done = list[str]()
    scripted(monkeypatch, done, error)

    def replaces(*_: object) -> bool:
        done.append("replace")
        return replaced

    monkeypatch.setattr(runner, "_replaced", replaces)

    def act() -> bool:
        return runner._acted(Stage.UPLOAD, Desk()(), watched(done), cast("Any", None), RENTS, commanded=True)

    if replaced:
        assert act() is False
    else:
        with pytest.raises(type(error)):
            act()
    assert done == acts


DEAD = InstanceDead("instance 7001 is gone")


@pytest.mark.parametrize(
    ("error", "death", "replaces", "destroying", "answer", "stops"),
    [
        (DEAD, None, True, False, True, False),
        (DEAD, None, False, False, False, True),
        (DEAD, None, False, True, False, False),
        (HostUnreachable("cut"), None, True, False, False, False),
        (HostUnreachable("cut"), DEAD, True, False, True, False),
        (HostUnreachable("cut"), DEAD, False, False, False, True),
    ],
)
def test_a_dead_instance_that_is_only_held_is_kept_from_billing(  # noqa: PLR0917 - a row of a table
    monkeypatch: pytest.MonkeyPatch,
    error: Any,
    death: InstanceDead | None,
    replaces: bool,
    destroying: bool,
    answer: bool,
    stops: bool,
) -> None:
    desk, kept = Desk(destroy_intended=destroying), list[str]()
    monkeypatch.setattr(provision, "death", lambda _: death)
    monkeypatch.setattr(replacement, "replace", lambda *_: replaces)
    monkeypatch.setattr(stopping, "keep_from_billing", lambda _c, _r, why: kept.append(why))
    assert runner._replaced(error, desk(), watched([]), RENTS) is answer
    assert kept == ([str(DEAD)] if stops else [])


@pytest.mark.parametrize(
    ("artifact", "problem", "raises"), [(None, None, False), (object(), "it is gone", False), (object(), None, True)]
)
def test_no_other_instance_is_rented_for_a_model_that_is_home(
    monkeypatch: pytest.MonkeyPatch, artifact: object, problem: str | None, raises: bool
) -> None:
    monkeypatch.setattr(postdownload, "local_problem", lambda *_: problem)
    desk = Desk(artifact=artifact)
    if raises:
        with pytest.raises(InstanceDead, match="its model is on this machine, and no other instance is rented"):
            runner._require_model_elsewhere(desk(), DEAD)
    else:
        runner._require_model_elsewhere(desk(), DEAD)


# --- configurations -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "fields"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a"]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, ["a.c"]),
        ({"a": {"b": 1}}, {"a": 5}, ["a"]),
        ({"a": 1}, {"b": 1}, ["a", "b"]),
        ({"a": [1]}, {"a": [2]}, ["a"]),
    ],
)
def test_the_fields_in_which_two_configurations_differ_are_named(before: Any, after: Any, fields: list[str]) -> None:
    assert runner._changed(before, after) == fields
