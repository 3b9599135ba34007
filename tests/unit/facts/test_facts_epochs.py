"""Rows that a training sees against those that its job has: the plan's sum, and what the job file may say of it."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from harness.core.ids import CheckId
from harness.core.observed import CouldNotLook
from harness.facts import epochs
from harness.gates import plan
from harness.job.load import load_job, parse_job
from harness.job.model import Job
from harness.log.grammar import DPO, SFT
from harness.plugin.looking import Evidence
from tests.support.facts import EPOCHS, PLAN, V2, log, sound_job

EXAMPLES = Path(__file__).parents[3] / "examples"
GATES = {"preflight": "all_rows_planned", "launch": "all_rows_announced", "posttrain": "all_rows_trained"}


@pytest.mark.parametrize(
    ("training", "limits", "said"),
    [
        pytest.param({}, {}, None, id="the real run: 2.76 epochs and one"),
        pytest.param(
            {"accumulation": {}},
            {},
            "sft: 330 steps of 32 rows see 10560 of 15300 rows, 0.69 epochs; limits.min_epochs = 1 needs 479 steps",
            id="one batch a step: what all rows need is told",
        ),
        pytest.param({"accumulation": {}, "steps": {"sft": 479, "dpo": 80}}, {}, None, id="one batch, and those steps"),
        pytest.param({"accumulation": {}, "steps": {"sft": 478, "dpo": 80}}, {}, "0.9997|15296", id="four rows short"),
        pytest.param({"accumulation": {}}, {"min_epochs": 0.69}, None, id="as few as the job file says"),
        pytest.param({"accumulation": {}}, {"min_epochs": 0.7}, "needs 335 steps", id="fewer than it says"),
        pytest.param({"steps": {"sft": 330, "dpo": 79}}, {}, "dpo: 79 steps of 32 rows see 2528 of 2550", id="DPO too"),
        pytest.param({}, {"min_epochs": 3.0}, "sft: 330 steps of 128 rows see 42240", id="more than once"),
    ],
)
def test_the_plan_adds_up(training: dict[str, Any], limits: dict[str, Any], said: str | None) -> None:
    job = sound_job(training=training, limits=limits)
    found = [one for name in (SFT, DPO) if (one := epochs.shortfall(job, name, job.training.rows_a_step(name)))]
    assert bool(found) is bool(said)
    assert not said or any(word in found[0] for word in said.split("|"))


@pytest.mark.parametrize(
    ("lines", "run", "rows"),
    [
        pytest.param([V2, PLAN, *EPOCHS], None, 128, id="the line"),
        pytest.param([V2, PLAN], None, 32, id="an older package: the batch of its plan"),
        pytest.param([V2], {"rows_a_step": {"sft": 128}, "batch_size": 32}, 128, id="run.json"),
        pytest.param([V2], {"batch_size": 32}, 32, id="an older run.json"),
        pytest.param([V2], {"rows_a_step": [128], "batch_size": "32"}, None, id="nothing that can be read"),
        pytest.param([V2], [1], None, id="no table"),
        pytest.param([V2], None, None, id="nothing"),
    ],
)
def test_rows_of_a_step_are_those_that_the_run_tells(lines: list[str], run: Any, rows: int | None) -> None:
    assert epochs.rows_a_step(SFT, log(*lines), run) == rows
    if rows is None:
        with pytest.raises(CouldNotLook, match="how many rows a step of sft takes"):
            epochs.announced(sound_job(), SFT, log(*lines), run)


def test_a_run_is_short_of_rows_by_its_own_account() -> None:
    """A step that takes what was planned may see too few of the rows all the same."""
    job = sound_job(training={"accumulation": {}})
    said = log(V2, PLAN, "[sft] EPOCHS 0.69 rows=15300 rows_a_step=32")
    assert "0.69 epochs" in str(epochs.announced(job, SFT, said))
    assert epochs.announced(sound_job(), SFT, log(V2, PLAN, *EPOCHS)) is None


def test_the_line_may_say_more_than_is_read_of_it() -> None:
    assert log(V2, PLAN, "[sft] EPOCHS 1 rows=10 rows_a_step=5 as of today").of(SFT).epochs == (
        log("[sft] EPOCHS 1.0 rows=10 rows_a_step=5").of(SFT).epochs
    )
    assert log("[sft] EPOCHS many rows=10 rows_a_step=5").of(SFT).epochs is None


def test_a_job_asks_for_nothing_where_its_file_says_so_or_its_record_is_older() -> None:
    job = sound_job(limits={"min_epochs": 0})
    recorded = json.loads(sound_job().model_dump_json())
    del recorded["limits"]["min_epochs"], recorded["training"]["accumulation"]
    older = Job.model_validate(recorded)
    assert older.training.rows_a_step("sft") == 32
    for stage, gate in GATES.items():
        assert gate in plan.declared(stage, sound_job())
        assert {plan.left_out(stage, one)[CheckId(gate)] for one in (job, older)} == {"limits.min_epochs = 0"}


def test_what_an_unmodified_script_may_gather_is_unknown() -> None:
    def judge(**training: Any) -> None:
        own = {"log": "trainer", "accumulation": {}, **training}
        script = import_module("harness.checks.preflight.check_script")
        script.check_all_rows_planned(None, sound_job(training=own), Evidence())

    with pytest.raises(CouldNotLook, match=r"see 10560 of 15300 .* does not say whether a step takes several batches"):
        judge()
    with pytest.raises(AssertionError, match="see 10560 of 15300"):
        judge(accumulation={"sft": 1})
    judge(accumulation={"sft": 4})
    judge(batch_size=128)


def test_the_examples_say_what_they_see() -> None:
    real, rehearsal = load_job(EXAMPLES / "forex-r1-v3.toml"), load_job(EXAMPLES / "local.toml")
    assert [real.training.rows_a_step(name) for name in real.trainers] == [128, 32]
    assert [rehearsal.training.rows_a_step(name) for name in rehearsal.trainers] == [32, 32]
    for job in (real, rehearsal, load_job(EXAMPLES / "starts/rehearsal.toml"), load_job(EXAMPLES / "starts/job.toml")):
        found = [epochs.shortfall(job, name, job.training.rows_a_step(name)) for name in job.taught]
        assert found == [None] * len(found)
    text = (EXAMPLES / "local.toml").read_text(encoding="utf-8").replace("min_epochs = 0.1", "")
    bold = parse_job(text, EXAMPLES / "local.toml")
    assert "see 3328 of 15300 rows" in (epochs.shortfall(bold, SFT, 32) or "")
