"""A job with a proof line of its own: looked for on the box, read from the log, demanded by the gate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.context import JobContext
from harness.core.lifecycle import Stage
from harness.core.observed import seen
from harness.core.ports import RunResult
from harness.core.questions import Answers, Question
from harness.core.verdict import Verdict
from harness.facts import launch
from harness.job.model import Job
from harness.log import summary
from harness.remote.probe import probe
from tests.support import facts
from tests.support.facts import PLAN, V2, Judged, sound_job, step_lines

answer: Any = pytest.importorskip("harness.remote.box.answer", reason="the box is Linux")

SAID = "v2_forex_integration_logged"
ANNOUNCED = "adopted_run_is_as_planned"
STEPS = step_lines("sft", 1, 5)


def job_on(box: Path) -> Job:
    return sound_job(data={"proof_line": "ROWS {sft}/{dpo} READY"}, package={"remote_dir": str(box)})


def judged(box: Path, *lines: str) -> Judged:
    """The gate's word on a log that lies on a box."""
    (box / "training.log").write_text("".join(f"{line}\n" for line in lines))

    def look(questions: Sequence[Question[Any]], *, timeout: float) -> Answers:
        told = answer.answers({"timeout": timeout, "limit": 1 << 20, "questions": probe.on_the_wire(questions)})
        return probe.parse(RunResult(0, b"m:" + json.dumps(told).encode(), b""), "m:", questions)

    job = job_on(box)
    context = SimpleNamespace(
        job=job,
        history=SimpleNamespace(launched_at=None, strategy=None),
        clock=SimpleNamespace(now=lambda: 0.0),
        host=lambda: SimpleNamespace(probe=look),
    )
    looked = launch.look(cast("JobContext", context))
    sound = facts.launch()
    return facts.judge(Stage.LAUNCH, replace(sound, log=looked.log, proof=looked.proof), job)[SAID]


def test_the_jobs_own_line_with_its_counts_opens_the_gate(tmp_path: Path) -> None:
    said = judged(tmp_path, "ROWS 15300/2550 READY", PLAN, *STEPS)
    assert said.verdict is Verdict.PASS, said.message


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["ROWS 15299/2550 READY", PLAN, *STEPS], "the log says 'ROWS 15299/2550 READY'"),
        (["ROWS 15300/2550 READY?", PLAN, *STEPS], "the log says 'ROWS 15300/2550 READY?'"),
        (["ROWS 15300/2550 READY", PLAN, *STEPS, PLAN], "only an earlier attempt said so"),
        ([PLAN, *STEPS], "did not appear"),
        ([V2, PLAN, *STEPS], "did not appear"),
    ],
)
def test_other_counts_other_words_and_silence_hold_it(tmp_path: Path, lines: list[str], why: str) -> None:
    said = judged(tmp_path, *lines)
    assert said.verdict is Verdict.FAIL
    assert why in said.message


@pytest.mark.parametrize(
    ("line", "verdict", "why"),
    [
        ("ROWS 15300/2550 READY", Verdict.PASS, ""),
        ("ROWS 300/2550 READY", Verdict.FAIL, "ROWS: sft is 300, planned 15300"),
        (V2, Verdict.FAIL, "no line ROWS"),
    ],
)
def test_an_adopted_training_is_held_to_it_too(tmp_path: Path, line: str, verdict: Verdict, why: str) -> None:
    job = job_on(tmp_path).model_copy(update={"adopted": True})
    whole = [line, *facts.whole_log()[1:]]
    log = summary.read("".join(f"{one}\n" for one in whole).encode(), job.data.proof)
    said = facts.judge(Stage.POSTTRAIN, replace(facts.posttrain(), log=seen(log)), job)[ANNOUNCED]
    assert said.verdict is verdict, said.message
    assert why in said.message
