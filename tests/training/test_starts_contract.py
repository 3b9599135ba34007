"""The one file that keeps the contract, with the real TRL: the log is what the trainer did, a death costs little."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from harness.artifacts import checkpoint, manifest
from harness.log.grammar import DPO, SFT, Trainer
from harness.log.proof import ProofLine
from harness.log.summary import LogSummary, read

SHARED = Path(__file__).resolve().parents[2] / "examples" / "starts" / "shared"
DRIVER = Path(__file__).with_name("starts_driver.py")
PROOF = ProofLine("MY DATA: {sft} SFT rows")
STEPS = {"sft": 6, "dpo": 4}

WEIGHTS = "adapter_model.safetensors"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(sys.platform == "win32", reason="attempts are forks"),
]


POINTS = {
    "the plan": ("PLAN ", {}),
    "the first step": ("[sft] step 1/", {}),
    "a step": ("[sft] step 3/", {"sft": [2]}),
    "a checkpoint half written": ("call:_save_optimizer_and_scheduler:2", {"sft": [2]}),
    "a checkpoint": ("[sft] Saved checkpoint models/output/sft/checkpoint-4", {"sft": [4]}),
    "the end of the first": ("[sft] COMPLETE", {"sft": [6]}),
    "a step of the second": ("[dpo] step 3/", {"sft": [6], "dpo": [2]}),
    "the end of the second": ("[dpo] COMPLETE", {"sft": [6], "dpo": [4]}),
}
"""Deaths, and the steps from which each trainer then goes on."""

FAILURES = {
    "of_another_length": "ValueError: dpo has 4 steps, announced were 5",
    "by_epochs": "save_strategy='steps' with save_steps is needed",
    "unfinished": "contract.finish() was never called",
}


@dataclass(frozen=True)
class Run:
    """A directory in which attempts were made, with the exit status and the log of each."""

    folder: Path
    statuses: list[int]
    logs: list[str]

    @property
    def log(self) -> LogSummary:
        """The log of all attempts, as the harness reads it."""
        return read((self.folder / "training.log").read_bytes(), PROOF)

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def weights(self) -> str:
        return hashlib.sha256((self.folder / "models/output/adapter" / WEIGHTS).read_bytes()).hexdigest()


Runs = Callable[[str], Run]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """All runs, made once however many workers test them: the libraries take longer than the training."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "starts"
    told: list[tuple[str, str, str | None, int]] = [("whole", "two", None, 0), ("rank", "two", None, 1)]
    told += [("plain", "plain", "[sft] step 5/", 0), ("plain", "plain", None, 0)]
    told += [(name, name, None, 0) for name in ("with_a_bar", "diverging", "ready", *FAILURES)]
    for name, (point, _) in POINTS.items():
        told += [(name, "two", point, 0), (name, "two", None, 0)]
    with FileLock(f"{folder}.lock"):
        if not (folder / "attempts.json").exists():
            folder.mkdir()
            for name in ("harness_contract.py", "tiny_model.py"):
                shutil.copy(SHARED / name, folder)
            quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
            command = [sys.executable, str(DRIVER), json.dumps(told)]
            done = subprocess.run(
                command, cwd=folder, env={**os.environ, **quiet}, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr[-3000:]
    ended = json.loads((folder / "attempts.json").read_text(encoding="utf-8"))

    def run(name: str) -> Run:
        own = [one for one in ended if one["run"] == name]
        return Run(folder / name, [one["status"] for one in own], [one["log"] for one in own])

    return run


def test_the_log_is_what_the_trainers_did(runs: Runs) -> None:
    run = runs("whole")
    assert run.statuses == [0], run.logs[0][-3000:]
    log, told = run.log, run.json("history.json")
    assert log.complete
    assert not log.errors
    assert log.attempts == 1
    assert run.logs[0].rstrip().endswith("TRAINING COMPLETE")
    assert log.data is not None
    assert log.data.rows == {"sft": 24}
    assert {kind: rows.rows for kind, rows in log.rows.items()} == {"examples": 24, "pairs": 7}
    assert log.rows["examples"].sha256 == hashlib.sha256((run.folder / "rows.jsonl").read_bytes()).hexdigest()
    assert log.plan is not None
    assert dict(log.plan.steps) == STEPS
    assert (log.plan.batch_size, log.plan.checkpoint_every, log.plan.lora_r, log.plan.lora_alpha) == (4, 2, 2, 4)
    assert (log.plan.dtype, log.plan.world_size, log.plan.device_map, log.plan.devices) == (
        "float32",
        1,
        "auto",
        ("cpu",),
    )
    for trainer, total in STEPS.items():
        said, done = log.of(Trainer(trainer)), [one for one in told[trainer] if "loss" in one]
        assert [step.step for step in said.steps] == [one["step"] for one in done] == list(range(1, total + 1))
        assert [step.loss for step in said.steps] == pytest.approx([one["loss"] for one in done], rel=1e-5)
        assert [step.lr for step in said.steps] == pytest.approx([one["learning_rate"] for one in done], rel=1e-5)
        assert {step.total for step in said.steps} == {total}
        assert all(step.s_per_step > 0 for step in said.steps)
        assert list(said.saved) == list(range(2, total + 1, 2))
        assert said.complete is not None
        assert (said.complete.step, said.complete.total) == (total, total)
    schedule = log.of(SFT).schedule
    assert schedule is not None
    assert (schedule.kind, schedule.warmup_steps, schedule.peak) == ("linear", 2, 0.01)
    assert log.first_dpo_loss == pytest.approx(log.of(DPO).steps[0].loss, rel=1e-5)


def test_run_json_and_the_manifest_tell_what_is_there(runs: Runs) -> None:
    run = runs("whole")
    told = run.json("run.json")
    assert told["model"]["name"] == "tiny"
    assert told["model"]["config"]["architecture"] == "LlamaForCausalLM"
    assert told["model"]["config"]["num_key_value_heads"] == 2
    assert told["lora"] == {"r": 2, "alpha": 4, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
    assert told["steps"] == STEPS
    assert told["data"]["examples"]["rows"] == 24
    assert {"torch", "transformers", "trl", "peft"} <= told["versions"].keys()
    listed = manifest.read_output_manifest((run.folder / "MANIFEST.json").read_bytes())
    assert dict(listed.steps) == STEPS
    for entry in listed.files:
        data = (run.folder / entry.path).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry.size, entry.sha256)
    kinds = {entry.path: entry.kind for entry in listed.files}
    assert kinds["models/output/adapter/adapter_model.safetensors"] == "adapter"
    assert kinds["run.json"] == "run"
    assert kinds["models/output/dpo/checkpoint-4/trainer_state.json"] == "trainer_state"
    written = {path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.is_file() and path.suffix != ".log"}
    assert (run.folder / "MANIFEST.json").stat().st_mtime_ns >= sorted(written)[-3]  # but for what the driver leaves


@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_and_run_again_it_ends_the_same(runs: Runs, point: str) -> None:
    run = runs(point)
    assert run.statuses == [-9, 0], run.logs[-1][-2000:]
    log = run.log
    assert log.complete
    assert log.attempts == 2
    resumed = {str(name): [one.at for one in told.resumes] for name, told in log.trainers.items() if told.resumes}
    assert resumed == POINTS[point][1]
    for trainer, total in STEPS.items():
        assert [step.step for step in log.of(Trainer(trainer)).steps] == list(range(1, total + 1))
    assert run.weights() == runs("whole").weights()


def test_every_weight_by_epochs_with_the_callback_alone(runs: Runs) -> None:
    run = runs("plain")
    assert run.statuses == [-9, 0], run.logs[-1][-2000:]
    log = run.log
    assert [one.at for one in log.of(SFT).resumes] == [4]
    assert [step.step for step in log.of(SFT).steps] == [1, 2, 3, 4, 5, 6]
    assert log.complete
    assert log.plan is not None
    assert (log.plan.lora_r, log.plan.device_map) == (0, "None")
    kinds = {entry["path"]: entry["kind"] for entry in run.json("MANIFEST.json")["files"]}
    assert kinds["models/output/final/model.safetensors"] == "model"


def test_below_a_bar_the_lines_are_lines(runs: Runs) -> None:
    log = runs("with_a_bar").log
    assert log.plan is not None
    assert [step.step for step in log.of(SFT).steps] == [1, 2, 3, 4, 5, 6]
    assert log.of(SFT).saved == (2, 4, 6)


@pytest.mark.parametrize("train", FAILURES)
def test_a_run_that_fails_says_so_last_and_leaves_no_manifest(runs: Runs, train: str) -> None:
    run = runs(train)
    assert run.statuses == [1], run.logs[0][-2000:]
    last = run.logs[0].splitlines()[-1]
    assert last.startswith("TRAINING FAILED: ")
    assert FAILURES[train] in last
    assert run.log.failed is not None
    assert not (run.folder / "MANIFEST.json").exists()


def test_a_loss_that_is_no_number_is_written_as_such(runs: Runs) -> None:
    run = runs("diverging")
    assert any(math.isnan(step.loss) for step in run.log.of(SFT).steps), run.logs[0][-2000:]


def test_another_rank_than_the_first_says_and_writes_nothing(runs: Runs) -> None:
    run = runs("rank")
    assert run.statuses == [0], run.logs[0][-2000:]
    assert run.log.plan is None
    assert not run.log.trainers
    assert not run.log.complete
    assert not (run.folder / "run.json").exists()
    assert (run.folder / "MANIFEST.json").read_text() == "{}"  # it is the first one's to remove


def test_the_base_model_is_proven(runs: Runs) -> None:
    assert runs("ready").logs[0].splitlines()[-1].startswith("READY base_model tiny bytes=")


DAMAGE: tuple[tuple[str, Callable[[bytes], bytes] | None], ...] = (
    ("trainer_state.json", lambda data: data[:40]),
    ("trainer_state.json", lambda data: data.replace(b'"global_step": 6', b'"global_step": 5')),
    ("trainer_state.json", lambda data: data.replace(b'"global_step": 6', b'"global_step": 6.0')),
    ("optimizer.pt", lambda data: data[: len(data) // 2]),
    ("optimizer.pt", lambda data: data[:3000] + bytes([data[3000] ^ 1]) + data[3001:]),
    ("optimizer.pt", None),
    ("scheduler.pt", None),
    ("rng_state.pth", None),
    ("training_args.bin", None),
    ("adapter_config.json", None),
    ("adapter_config.json", lambda data: data[:-4]),
    ("adapter_model.safetensors", None),
    ("adapter_model.safetensors", lambda data: data[:-8]),
    ("adapter_model.safetensors", lambda data: data[:-4096] + b"\xff" * 4096),
)


def test_what_the_harness_takes_for_whole_or_damaged_so_does_the_file(runs: Runs, tmp_path: Path) -> None:
    cases: tuple[tuple[str, Callable[[bytes], bytes] | None], ...] = (
        ("trainer_state.json", lambda data: data),
        *DAMAGE,
    )
    folders = [tmp_path / str(number) for number in range(len(cases))]
    for folder, (name, damage) in zip(folders, cases, strict=True):
        shutil.copytree(runs("whole").folder / "models/output/sft", folder)
        file = folder / "checkpoint-6" / name
        if damage is None:
            file.unlink()
        else:
            file.write_bytes(damage(file.read_bytes()))
    one = "print(harness_contract.Contract(base='x').newest('sft', told))"
    script = f"import sys, harness_contract\nfor told in sys.argv[1:]: {one}"
    command = [sys.executable, "-c", script, *map(str, folders)]
    done = subprocess.run(command, cwd=SHARED, capture_output=True, text=True, check=True)
    resumed = [line for line in done.stdout.splitlines() if "PASSED OVER" not in line]
    steps = [[found.step for found in checkpoint.find(folder) if found.resumable][-1] for folder in folders]
    newest = [folder / f"checkpoint-{step}" for folder, step in zip(folders, steps, strict=True)]
    assert resumed == [str(path) for path in newest]
    assert [path.name for path in newest] == ["checkpoint-6", *["checkpoint-4"] * len(DAMAGE)]
    passed = [line for line in done.stdout.splitlines() if "PASSED OVER" in line]
    assert len(passed) == len(DAMAGE)
    assert all("checkpoint-6: " in line for line in passed)
