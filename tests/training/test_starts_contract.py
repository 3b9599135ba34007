"""The one file that keeps the contract, with the real TRL: the log is what the trainer did, a death costs little."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts import checkpoint, manifest
from harness.log.grammar import DPO, SFT, Trainer
from harness.log.proof import ProofLine
from harness.log.summary import LogSummary, read

SHARED = Path(__file__).resolve().parents[2] / "examples" / "starts" / "shared"
DRIVER = Path(__file__).with_name("starts_driver.py")
PROOF = ProofLine("MY DATA: {sft} SFT rows")
STEPS = {"sft": 6, "dpo": 4}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="attempts are forks")


class Run:
    """A directory in which attempts are made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        for name in ("harness_contract.py", "tiny_model.py"):
            shutil.copy(SHARED / name, folder)

    def attempts(self, *told: tuple[str, str | None], **environment: str) -> list[dict[str, Any]]:
        """Each attempt: what it trains, and the line or call at which it is killed."""
        command = [sys.executable, str(DRIVER), json.dumps([{"train": train, "kill": kill} for train, kill in told])]
        quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **environment}
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, **quiet},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found: list[dict[str, Any]] = json.loads((self.folder / "attempts.json").read_text())
        return found

    def log(self, attempts: list[dict[str, Any]]) -> LogSummary:
        """The log of all attempts, as the harness reads it."""
        return read("".join(one["log"] for one in attempts).encode(), PROOF)

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def weights(self, place: str = "models/output/adapter/adapter_model.safetensors") -> str:
        return hashlib.sha256((self.folder / place).read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[dict[str, Any]]]:
    run = Run(tmp_path_factory.mktemp("whole"))
    return run, run.attempts(("two", None))


@pytest.mark.slow
def test_the_log_is_what_the_trainers_did(whole: tuple[Run, list[dict[str, Any]]]) -> None:
    run, ended = whole
    assert ended[0]["status"] == 0, ended[0]["log"][-3000:]
    log, told = run.log(ended), run.json("history.json")
    assert log.complete
    assert not log.errors
    assert log.attempts == 1
    assert ended[0]["log"].rstrip().endswith("TRAINING COMPLETE")
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


@pytest.mark.slow
def test_run_json_and_the_manifest_tell_what_is_there(whole: tuple[Run, list[dict[str, Any]]]) -> None:
    run, _ = whole
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


POINTS = (
    ("PLAN ", {}),
    ("[sft] step 1/", {}),
    ("[sft] step 3/", {"sft": [2]}),
    ("call:_save_optimizer_and_scheduler:2", {"sft": [2]}),
    ("[sft] Saved checkpoint models/output/sft/checkpoint-4", {"sft": [4]}),
    ("[sft] COMPLETE", {"sft": [6]}),
    ("[dpo] step 3/", {"sft": [6], "dpo": [2]}),
    ("call:save_model:6", {"sft": [6], "dpo": [4]}),
    ("[dpo] COMPLETE", {"sft": [6], "dpo": [4]}),
)
"""Deaths, and the steps from which each trainer goes on."""


@pytest.mark.slow
@pytest.mark.parametrize(("point", "resumed"), POINTS, ids=[point for point, _ in POINTS])
def test_killed_anywhere_and_run_again_it_ends_the_same(
    tmp_path: Path, whole: tuple[Run, list[dict[str, Any]]], point: str, resumed: dict[str, list[int]]
) -> None:
    run = Run(tmp_path / "killed")
    first, second = run.attempts(("two", point), ("two", None))
    assert first["status"] == -9, first["log"][-2000:]
    assert second["status"] == 0, second["log"][-2000:]
    log = run.log([first, second])
    assert log.complete
    assert log.attempts == 2
    assert {name: [one.at for one in told.resumes] for name, told in log.trainers.items() if told.resumes} == resumed
    for trainer, total in STEPS.items():
        said = log.of(Trainer(trainer))
        assert [step.step for step in said.steps] == list(range(1, total + 1))
    assert run.weights() == whole[0].weights()


@pytest.mark.slow
def test_every_weight_by_epochs_with_the_callback_alone(tmp_path: Path) -> None:
    run = Run(tmp_path / "plain")
    first, second = run.attempts(("plain", "[sft] step 5/"), ("plain", None))
    assert second["status"] == 0, second["log"][-2000:]
    log = run.log([first, second])
    assert [one.at for one in log.of(SFT).resumes] == [4]
    assert [step.step for step in log.of(SFT).steps] == [1, 2, 3, 4, 5, 6]
    assert log.complete
    assert log.plan is not None
    assert (log.plan.lora_r, log.plan.device_map) == (0, "None")
    kinds = {entry["path"]: entry["kind"] for entry in run.json("MANIFEST.json")["files"]}
    assert kinds["models/output/final/model.safetensors"] == "model"


@pytest.mark.slow
def test_below_a_bar_the_lines_are_lines(tmp_path: Path) -> None:
    run = Run(tmp_path / "bar")
    (ended,) = run.attempts(("with_a_bar", None))
    assert [step.step for step in run.log([ended]).of(SFT).steps] == [1, 2, 3, 4, 5, 6]
    assert run.log([ended]).plan is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("train", "reason"),
    [
        ("of_another_length", "ValueError: dpo has 4 steps, announced were 5"),
        ("by_epochs", "save_strategy='steps' with save_steps is needed"),
        ("unfinished", "contract.finish() was never called"),
    ],
)
def test_a_run_that_fails_says_so_last_and_leaves_no_manifest(tmp_path: Path, train: str, reason: str) -> None:
    run = Run(tmp_path / "failed")
    (run.folder / "MANIFEST.json").write_text("{}")
    (ended,) = run.attempts((train, None))
    assert ended["status"] == 1
    assert reason in ended["log"].splitlines()[-1]
    assert ended["log"].splitlines()[-1].startswith("TRAINING FAILED: ")
    assert run.log([ended]).failed is not None
    assert not (run.folder / "MANIFEST.json").exists()


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_written_as_such(tmp_path: Path) -> None:
    run = Run(tmp_path / "nan")
    (ended,) = run.attempts(("diverging", None))
    assert any(step.loss != step.loss for step in run.log([ended]).of(SFT).steps), ended["log"][-2000:]


@pytest.mark.slow
def test_another_rank_than_the_first_says_and_writes_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path / "rank")
    (ended,) = run.attempts(("two", None), RANK="1")
    log = run.log([ended])
    assert ended["status"] == 0, ended["log"][-2000:]
    assert log.plan is None
    assert not log.trainers
    assert not log.complete
    assert not (run.folder / "run.json").exists()
    assert not (run.folder / "MANIFEST.json").exists()


@pytest.mark.slow
def test_the_base_model_is_proven(tmp_path: Path) -> None:
    run = Run(tmp_path / "ready")
    (ended,) = run.attempts(("ready", None))
    assert ended["log"].splitlines()[-1].startswith("READY base_model tiny bytes=")


DAMAGE = (
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


@pytest.mark.slow
def test_what_the_harness_takes_for_whole_or_damaged_so_does_the_file(
    whole: tuple[Run, list[dict[str, Any]]], tmp_path: Path
) -> None:
    made = whole[0].folder / "models/output/sft"
    newest = "json.dumps(one.Contract(base='x').newest('sft', sys.argv[1]))"
    script = f"import json, sys, harness_contract as one; print({newest})"
    for number, (name, damage) in enumerate((("trainer_state.json", lambda data: data), *DAMAGE)):
        folder = tmp_path / str(number)
        shutil.copytree(made, folder)
        file = folder / "checkpoint-6" / name
        if damage is None:
            file.unlink()
        else:
            file.write_bytes(damage(file.read_bytes()))
        resumable = [one.step for one in checkpoint.find(folder) if one.resumable]
        command = [sys.executable, "-c", script, str(folder)]
        done = subprocess.run(command, cwd=whole[0].folder, capture_output=True, text=True, check=True, timeout=120)
        *passed, found = done.stdout.splitlines()
        assert json.loads(found) == str(folder / f"checkpoint-{resumable[-1]}"), (name, done.stdout)
        named = [line.split(":")[0].rsplit("/", 1)[-1] for line in passed]
        assert named == (["checkpoint-6"] if number else [])
