"""The mirror at home: which of its checkpoints a training could go on from elsewhere, and what is wrong with others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts import safetensors
from harness.facts.mirror import RUN_FILE, Mirrored, mirrored, resumable
from harness.job.load import load_job
from harness.job.model import Job
from tests.support.checkpoint_files import tensors, write_checkpoint
from tests.support.facts import sound_job

PLAIN = load_job(Path(__file__).parents[2] / "support" / "plain_job.toml")
WHOLE_MODEL: Mapping[str, Any] = {"lora_r": 0, "lora_alpha": 0}


def a_job(**tables: Mapping[str, Any]) -> Job:
    return sound_job(training={"steps": {"sft": 300, "dpo": 80}}, **tables)


def kept(mirror: Path, trainer: str, step: int, *, run: bool = True) -> Path:
    """A whole checkpoint of an adapter, brought home."""
    folder = write_checkpoint(mirror / trainer, step)
    if run:
        (folder / RUN_FILE).write_text("{}")
    return folder


def of_a_model(folder: Path) -> None:
    """It is of a whole model."""
    (folder / "adapter_model.safetensors").rename(folder / "model.safetensors")
    (folder / "config.json").write_text("{}")


def test_the_newest_of_every_trainer_up_to_the_first_unfinished_one_is_gone_on_from(tmp_path: Path) -> None:
    job = a_job()
    assert resumable(tmp_path, job) is None
    for step in (100, 200):
        kept(tmp_path, "sft", step)
    kept(tmp_path, "dpo", 40)
    found = resumable(tmp_path, job)
    assert found is not None
    assert found.steps == {"sft": 200}, "what dpo learnt from an older sft is of no use"
    kept(tmp_path, "sft", 300)
    kept(tmp_path, "dpo", 80)
    found = resumable(tmp_path, job)
    assert found is not None
    assert found.steps == {"sft": 300, "dpo": 40}, "after its very last step nothing is left that could be judged"
    there = {f"models/output/{trainer}/checkpoint-{step}" for trainer, step in found.steps.items()}
    assert {name.rpartition("/")[0] for name in found.files} == {*there, ""}
    assert found.files["models/output/sft/checkpoint-300/scheduler.pt"] == tmp_path / "sft/checkpoint-300/scheduler.pt"


@pytest.mark.parametrize("trainer", ["sft", "dpo"])
def test_a_trainer_without_any_ends_the_search(trainer: str, tmp_path: Path) -> None:
    kept(tmp_path, trainer, 80)
    found = resumable(tmp_path, a_job())
    assert (found.steps if found else None) == ({"sft": 80} if trainer == "sft" else None)


def test_only_an_unmodified_trainer_goes_on_without_its_runs_account(tmp_path: Path) -> None:
    kept(tmp_path, "sft", 10, run=False)
    assert resumable(tmp_path, a_job()) is None
    found = resumable(tmp_path, PLAIN)
    assert found is not None
    assert found.steps == {"sft": 10}


@pytest.mark.parametrize(
    ("weights", "goes_on"), [(b"\x00\x00\x80\x3f", True), (b"\x00\x00\xc0\x7f", False), (bytes(4), False)]
)
def test_of_an_adapter_what_is_unfit_is_not_gone_on_from(weights: bytes, goes_on: bool, tmp_path: Path) -> None:
    folder = kept(tmp_path, "sft", 100)
    tensors(folder / "adapter_model.safetensors", ("lora_A.weight", "F32", [2], weights * 2))
    assert (resumable(tmp_path, a_job()) is not None) is goes_on
    (one,) = mirrored(tmp_path, ["sft"])
    assert (one.problem is None) is goes_on


def test_of_a_whole_model_no_adapter_is_needed_and_what_is_broken_or_unfit_stays(tmp_path: Path) -> None:
    job = a_job(model=WHOLE_MODEL)
    for step, spoil in ((100, ""), (200, "optimizer.pt")):
        folder = kept(tmp_path, "sft", step)
        of_a_model(folder)
        if spoil:
            (folder / spoil).unlink()
    tensors(kept(tmp_path, "sft", 250) / "adapter_model.safetensors", ("a", "F32", [2], b"\x00\x00\xc0\x7f" * 2))
    found = resumable(tmp_path, job)
    assert found is not None
    assert found.steps == {"sft": 100}
    assert resumable(tmp_path, a_job()) is None, "an adapter is what this job would go on from"


def test_every_form_of_weights_is_listed_with_its_bytes_and_its_problem(tmp_path: Path) -> None:
    index = "model.safetensors.index.json"
    forms = {"model.safetensors": (b"?", True), index: (b"{}", True), "pytorch_model.bin": (b"PK", False)}
    for step, (name, (data, _)) in enumerate(forms.items(), 1):
        folder = tmp_path / "sft" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / name).write_bytes(data)
    (tmp_path / "sft" / "checkpoint-8" / "model.safetensors").mkdir(parents=True)
    whole = tmp_path / "dpo" / "checkpoint-7"
    whole.mkdir(parents=True)
    tensors(whole / "model.safetensors", ("a", "U8", [4], b"four"))
    found = mirrored(tmp_path, ["sft", "dpo"])
    assert [(one.trainer, one.step) for one in found] == [("dpo", 7), ("sft", 1), ("sft", 2), ("sft", 3)]
    assert found[0] == Mirrored("dpo", 7, (whole / "model.safetensors").stat().st_size)
    assert [one.bytes for one in found[1:]] == [len(data) for data, _ in forms.values()]
    assert [one.problem is not None for one in found[1:]] == [broken for _, broken in forms.values()]


def test_weights_that_cannot_be_read_are_a_problem_and_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(safetensors, "problem", failing)
    folder = tmp_path / "sft" / "checkpoint-1"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"x")
    assert [one.problem for one in mirrored(tmp_path, ["sft"])] == ["cannot be read: Input/output error"]
