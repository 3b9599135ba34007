"""Rows that a training sees against those that its job has: the plan's sum, and what the job file may say of it."""

from __future__ import annotations

import json
from dataclasses import replace
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
from harness.log import folding, trainerstate
from harness.log.grammar import DPO, SFT
from harness.log.summary import TrainerLog
from harness.log.trainerstate import TrainerState
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


def _unmodified(*, batch_size: int = 0, **limits: Any) -> Job:
    """SFT alone by a trainer that says nothing of its own: 60 steps over 120 rows."""
    rows = {"file": "rows.jsonl", "rows": 120, "trainer": "sft"}
    return sound_job(
        training={"log": "trainer", "steps": {"sft": 60}, "batch_size": batch_size, "accumulation": {}},
        data={"proof_line": None, "files": {"rows": rows}},
        limits={"s_per_step": {"sft": 4.4}, **limits},
    )


def _said(*lines: str) -> TrainerLog:
    return folding.read("".join(f"{line}\n" for line in lines).encode(), {SFT: 60}, None).of(SFT)


def _state(epochs: float | None) -> TrainerState:
    told = {"global_step": 60, "max_steps": 60, "log_history": []} | ({"epoch": epochs} if epochs is not None else {})
    return trainerstate.read(json.dumps(told).encode())


@pytest.mark.parametrize(
    ("epochs", "batch", "least", "said"),
    [
        pytest.param(1.0, 2, 1.0, None, id="once through all rows"),
        pytest.param(0.99, 2, 1.0, None, id="but for a last, incomplete step"),
        pytest.param(0.98, 2, 1.0, "it went 0.98 times through its rows, limits.min_epochs = 1", id="less than that"),
        pytest.param(0.5, 1, 0.5, None, id="as little as the job file says"),
        pytest.param(0.5, 1, 0.5 * (1 + 1 / 60), None, id="as little, but for its last step"),
        pytest.param(None, 2, 1.0, None, id="no epoch, and a batch that comes to all rows"),
        pytest.param(None, 1, 1.0, "60 steps of 1 rows see 60 of 120 rows", id="no epoch, and one that does not"),
        pytest.param(1.0, 0, 1.0, None, id="no batch that would tell of what"),
    ],
)
def test_epochs_of_a_trainers_own_are_held_against_what_is_demanded(
    epochs: float | None, batch: int, least: float, said: str | None
) -> None:
    told = epochs_of(_unmodified(batch_size=batch, min_epochs=least), _said(), _state(epochs))
    assert (told is None) is (said is None), told
    assert said is None or said in str(told)


def epochs_of(job: Job, said: TrainerLog, state: TrainerState | None) -> str | None:
    return epochs.recorded(job, SFT, said, state)


def test_steps_of_no_row_come_to_none() -> None:
    assert "needs 15300 steps" in str(epochs.shortfall(sound_job(), SFT, 0))


def test_epochs_that_nobody_tells_or_of_fewer_rows_could_not_be_looked_at() -> None:
    for state in (None, _state(None)):
        with pytest.raises(CouldNotLook, match=r"neither the log nor trainer_state\.json tells an epoch of sft"):
            epochs_of(_unmodified(), _said(), state)
    with pytest.raises(CouldNotLook, match="an epoch of it is about 60 rows, the job has 120: packed"):
        epochs_of(_unmodified(batch_size=2), _said(), _state(2.0))
    assert epochs_of(_unmodified(batch_size=2), _said(), _state(1.01)) is None, "two rounded numbers"


@pytest.mark.parametrize(
    ("samples", "batch", "doubt"), [(60.0, 2, "about 60 rows"), (120.0, 1, None), (0.99 * 120, 1, None)]
)
def test_what_the_trainer_says_that_it_saw_goes_before_what_was_planned(
    samples: float, batch: int, doubt: str | None
) -> None:
    said = _said("{'loss': 2.5, 'epoch': 1.0}", " 100%|#  | 60/60 [00:10<00:00,  4.40s/it]")
    assert said.records is not None
    said = replace(said, records=replace(said.records, samples=samples))
    if doubt is None:
        assert epochs_of(_unmodified(batch_size=batch), said, _state(1.0)) is None
        return
    with pytest.raises(CouldNotLook, match=doubt):
        epochs_of(_unmodified(batch_size=batch), said, _state(1.0))


def test_what_a_run_announces_is_held_against_the_job() -> None:
    job = sound_job()
    fewer = log(V2, PLAN, "[sft] EPOCHS 2.76078 rows=15299 rows_a_step=128")
    assert epochs.announced(job, SFT, fewer) == "sft: it has 15299 rows, the job has 15300"
    other = log(V2, PLAN, "[sft] EPOCHS 2.76078 rows=15300 rows_a_step=64")
    assert epochs.announced(job, SFT, other) == (
        "sft: a step takes 64 rows, 128 are planned (batch_size x accumulation)"
    )


@pytest.mark.parametrize(
    ("lines", "most"),
    [
        ([], None),
        (["{'loss': 2.5, 'epoch': 0.5}", " 10%|#  | 30/60 [00:10<00:10,  4.40s/it]"], 1.01),
        (["{'loss': 2.5}", " 10%|#  | 30/60 [00:10<00:10,  4.40s/it]"], None),
        (["{'loss': 2.5, 'epoch': 0.5}"], None),
    ],
)
def test_the_most_epochs_to_come_are_told_by_a_numbered_record(lines: list[str], most: float | None) -> None:
    told = epochs.coming(_said(*lines))
    assert told == (None if most is None else pytest.approx(most))
