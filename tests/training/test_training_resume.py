"""Killed anywhere and run again, the package ends with the same bytes as a run that was left alone."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forex import runlog

from harness.facts import mirror
from tests.support.facts import sound_job

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="the driver forks")]

SAVE = "transformers.trainer:Trainer._save_checkpoint"

TRAINING_DEATHS: list[dict[str, Any] | None] = [
    {"target": "forex.training:LogLines.on_log", "call": 2, "when": "before"},
    {"target": "peft.peft_model:safe_save_file", "call": 1, "when": "torn", "suffix": "adapter_model.safetensors"},
    {"target": "torch:save", "call": 2, "when": "before", "suffix": "optimizer.pt"},
    {"target": "torch:save", "call": 1, "when": "torn", "suffix": "optimizer.pt"},
    {"target": "torch:save", "call": 1, "when": "before", "suffix": "rng_state.pth"},
    {"target": "transformers.trainer_callback:TrainerState.save_to_json", "call": 1, "when": "before"},
    {"target": "transformers.trainer_callback:TrainerState.save_to_json", "call": 1, "when": "torn", "suffix": ".json"},
    {"target": "shutil:rmtree", "call": 1, "when": "before", "suffix": "sft/checkpoint-2"},
    {"target": "forex.runlog:say", "call": 1, "when": "before", "suffix": runlog.STAGE_COMPLETE},
    {"target": "torch:save", "call": 1, "when": "torn", "suffix": "scheduler.pt"},
    {"target": "forex.training:LogLines.on_save", "call": 2, "when": "before"},
]

EXPORT_DEATHS: list[dict[str, Any] | None] = [
    {"target": "shutil:copyfile", "call": 1, "when": "torn", "suffix": "adapter_model.safetensors"},
    {"target": "shutil:rmtree", "call": 1, "when": "after", "suffix": "output/adapter"},
    {"target": "forex.ggml:encode", "call": 9, "when": "before"},
    {"target": "forex.verify:verify", "call": 1, "when": "before"},
    {"target": "forex.runlog:say", "call": 1, "when": "before", "suffix": runlog.GGUF},
    {"target": "forex.manifest:modelfile", "call": 1, "when": "before"},
    {"target": "forex.manifest:write", "call": 1, "when": "before"},
    {"target": "forex.runlog:say", "call": 1, "when": "before", "suffix": runlog.COMPLETE},
]


def digests(workdir: Path) -> dict[str, str]:
    """What a finished run leaves that must not depend on its history."""
    names = (
        "models/output/sft/checkpoint-7/adapter_model.safetensors",
        "models/output/dpo/checkpoint-4/adapter_model.safetensors",
        "models/output/adapter/adapter_model.safetensors",
        "models/output/final/small.Q8_0.gguf",
        "models/output/final/Modelfile",
        "run.json",
    )
    return {name: hashlib.sha256((workdir / name).read_bytes()).hexdigest() for name in names}


def last_line(log: str) -> str:
    return log.strip().splitlines()[-1]


def test_deaths_in_training_and_export_leave_no_trace_in_the_result(
    finished: Path, new_workdir: Callable[[], Path], attempt: Callable[..., list[dict[str, Any]]]
) -> None:
    workdir = new_workdir()
    *killed, end = attempt(workdir, [*TRAINING_DEATHS, *EXPORT_DEATHS, None])
    for point, dead in zip([*TRAINING_DEATHS, *EXPORT_DEATHS], killed, strict=True):
        assert dead["signal"] == 9, f"{point} was not reached:\n{dead['log'][-1500:]}"
    assert end["status"] == 0, end["log"]
    assert last_line(end["log"]) == "TRAINING COMPLETE"
    assert digests(workdir) == digests(finished)
    logs = "".join(dead["log"] for dead in killed)
    assert "PASSED OVER models/output/sft/checkpoint-2: adapter_model.safetensors does not parse" in logs
    assert "optimizer.pt is missing" in logs
    assert "optimizer.pt does not parse" in logs
    assert "trainer_state.json is missing" in logs


def test_kills_at_random_moments_leave_no_trace_in_the_result(
    finished: Path, new_workdir: Callable[[], Path], attempt: Callable[..., list[dict[str, Any]]]
) -> None:
    workdir = new_workdir()
    chance = random.Random(5)
    *_, end = attempt(workdir, [*({"after": chance.uniform(1, 9)} for _ in range(5)), None])
    assert end["status"] == 0, end["log"]
    assert digests(workdir) == digests(finished)


def test_what_the_mirror_holds_is_enough_on_another_box(
    finished: Path, new_workdir: Callable[[], Path], attempt: Callable[..., list[dict[str, Any]]], tmp_path: Path
) -> None:
    """The whole checkpoints and run.json alone go to an empty box: the same bytes come out."""
    dead = new_workdir()
    in_dpo = {"target": "torch:save", "call": 1, "when": "before", "suffix": "dpo/checkpoint-4/optimizer.pt"}
    (killed,) = attempt(dead, [in_dpo])
    assert killed["signal"] == 9, killed["log"][-1500:]
    for trainer in ("sft", "dpo"):
        for folder in (dead / "models/output" / trainer).glob("checkpoint-*"):
            shutil.copytree(folder, tmp_path / "mirror" / trainer / folder.name)
            shutil.copyfile(dead / "run.json", tmp_path / "mirror" / trainer / folder.name / "run.json")
    resume = mirror.resumable(tmp_path / "mirror", sound_job(training={"steps": {"sft": 7, "dpo": 4}}))
    assert resume is not None
    assert resume.steps == {"sft": 7, "dpo": 2}
    workdir = new_workdir()
    for place, file in resume.files.items():
        (workdir / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, workdir / place)
    (end,) = attempt(workdir, [None])
    assert end["status"] == 0, end["log"]
    assert "[dpo] RESUME from models/output/dpo/checkpoint-2 at step 2" in end["log"]
    assert "[sft] step" not in end["log"]
    assert digests(workdir) == digests(finished)


def test_a_finished_run_started_again_trains_and_writes_nothing(
    finished: Path, attempt: Callable[..., list[dict[str, Any]]]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / "models" / "output").rglob("*") if path.is_file()}
    (end,) = attempt(finished, [None])
    assert end["status"] == 0
    assert " step " not in end["log"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert last_line(end["log"]) == "TRAINING COMPLETE"
    assert not list((finished / "models" / "output" / "sft").glob("checkpoint-8"))
