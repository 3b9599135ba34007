"""The first look of a run holds the job as its gate would, before anything is staged; it opens nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from harness.context import RunnerContext
from harness.core.errors import GateHeld
from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.ledger.events import GateJudged, Held, Staged, StageEntered
from harness.plugin import at_once
from harness.runner import run as runner
from harness.runner.first_look import first_look
from harness.runner.progress import ProgressReporter
from tests.support.context import RENTS, Telling, make_world
from tests.support.job_histories import check, gate


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[Verdict]:
    """Verdicts of the first looks to come, in turn; afterwards they pass."""
    verdicts: list[Verdict] = []

    def judge(job: object, facts: object) -> object:
        del facts
        bent = [check(Stage.PREFLIGHT, "destination_is_clean", verdicts.pop(0), message="older")] if verdicts else []
        return gate(Stage.PREFLIGHT, job, *bent)  # type: ignore[arg-type]

    monkeypatch.setattr(at_once, "judge_at_once", judge)
    monkeypatch.setattr("harness.facts.preflight.first_look", lambda _: None)
    return verdicts


def _agreed(_id: object, _file: object) -> str:
    return "the test agrees"


def test_it_holds_before_anything_is_staged_and_the_log_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked: list[Verdict]
) -> None:
    world = make_world(tmp_path, monkeypatch)
    world.open()
    looked[:] = [Verdict.FAIL]
    with pytest.raises(GateHeld, match=r"stage preflight is held: destination_is_clean \(older\)"):
        runner.run(world.context(), Telling(), _agreed, first_look=first_look)
    kinds = world.kinds()
    assert Staged not in kinds
    assert GateJudged not in kinds
    assert kinds[-2:] == [StageEntered, Held]
    assert not (world.context().directory / "package").exists()


def test_what_passes_is_judged_again_by_the_gate_and_asked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked: list[Verdict]
) -> None:
    del looked
    world, asked = make_world(tmp_path, monkeypatch), []

    def look(context: RunnerContext, reporter: ProgressReporter) -> None:
        asked.append(context.history.stage)
        first_look(context, reporter)

    world.open()
    for until in (Stage.PREFLIGHT, Stage.PROVISION):
        runner.run(world.context(), Telling(), _agreed, until=until, agreement=RENTS, first_look=look)
    assert asked == [Stage.PREFLIGHT]
    assert world.judged[0] is Stage.PREFLIGHT


def test_who_asks_for_preflight_alone_is_told_and_has_the_whole_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked: list[Verdict]
) -> None:
    world = make_world(tmp_path, monkeypatch)
    world.open()
    looked[:] = [Verdict.FAIL]
    only = partial(first_look, holds=False)
    runner.run(world.context(), Telling(), _agreed, until=Stage.PREFLIGHT, first_look=only)
    assert Staged in world.kinds()


def test_what_holds_early_is_told_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked: list[Verdict]
) -> None:
    world, told = make_world(tmp_path, monkeypatch), []

    class Hearing(Telling):
        def judged(self, stage: Stage, judge: object) -> None:
            told.append((stage, judge.verdict))  # type: ignore[attr-defined]

    world.open()
    looked[:] = [Verdict.UNKNOWN]
    with pytest.raises(Exception, match="destination_is_clean"):
        runner.run(world.context(), Hearing(), _agreed, first_look=first_look)
    assert told == [(Stage.PREFLIGHT, Verdict.UNKNOWN)]
