"""Trackers: TensorBoard's own reader reads what was written; one that fails ends no training."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def _train(names: tuple[str, ...], stage: str = "sft") -> Any:
    """Four steps of a straight line that is fitted by transformers' own trainer."""
    import torch
    from forex import trackers
    from transformers import Trainer, TrainingArguments

    class Line(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slope = torch.nn.Linear(1, 1)

        def forward(self, x: Any, labels: Any) -> dict[str, Any]:
            return {"loss": ((self.slope(x) - labels) ** 2).mean()}

    rows = [{"x": [float(number)], "labels": [2.0 * number]} for number in range(8)]
    args = TrainingArguments(
        "models/output/sft", max_steps=4, per_device_train_batch_size=2, logging_steps=1, report_to=[], use_cpu=True,
        save_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = Trainer(model=Line(), args=args, train_dataset=rows)
    trainer.add_callback(trackers.Trackers(stage, names))
    trainer.train()
    assert trainer.state.global_step == 4
    return trainer


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TENSORBOARD_LOGGING_DIR", "TRACKIO_DIR", "WANDB_DIR", "WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.setenv(name, "")  # so that what the package sets is gone afterwards
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_tensorboards_own_reader_reads_every_step(workdir: Path) -> None:
    from forex import trackers
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = _train(("tensorboard",))
    listed = trackers.files()
    assert {one["kind"] for one in listed} == {"tracker"}
    assert all(Path(one["path"]).name.startswith("events.out.tfevents.") for one in listed)
    read = EventAccumulator(str(workdir / "models/output/runs/sft"))
    read.Reload()
    found = {one.step: one.value for one in read.Scalars("train/loss")}
    said = {one["step"]: one["loss"] for one in trainer.state.log_history if "loss" in one}
    assert found.keys() == said.keys() == {1, 2, 3, 4}
    assert all(math.isclose(found[step], said[step], rel_tol=1e-4) for step in said)


class _Breaks:
    """A tracker that fails at one event."""

    def __init__(self, event: str) -> None:
        self.event, self.seen = event, list[str]()

    def __getattr__(self, name: str) -> Any:
        def act(*_: Any, **__: Any) -> None:
            self.seen.append(name)
            if name == self.event:
                raise RuntimeError("no key\nand no network")

        return act


@pytest.mark.usefixtures("workdir")
@pytest.mark.parametrize("event", ["on_train_begin", "on_log", "on_train_end"])
def test_a_tracker_that_fails_ends_no_training_and_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], event: str
) -> None:
    from forex import trackers

    broken = _Breaks(event)
    monkeypatch.setattr(trackers, "_made", lambda _: broken)
    _train(("trackio",))
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[sft] no trackio")]
    assert said == ["[sft] no trackio, the training goes on without it: RuntimeError: no key and no network"]
    assert broken.seen[-1] == event


@pytest.mark.usefixtures("workdir")
def test_one_that_is_not_installed_is_said_and_done_without(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers.integrations import integration_utils

    monkeypatch.setattr(integration_utils, "is_tensorboard_available", lambda: False)
    _train(("tensorboard",))
    assert "[sft] no tensorboard, the training goes on without it: RuntimeError" in capsys.readouterr().out


def test_without_a_key_nothing_is_sent_anywhere(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from forex import trackers

    trackers.Trackers("dpo", ())
    assert os.environ["WANDB_MODE"] == "offline"
    assert os.environ["WANDB_DIR"] == str(workdir / "models/output/runs/dpo")
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "a key that the job file named")
    trackers.Trackers("dpo", ())
    assert os.environ["WANDB_MODE"] == "online"


def test_only_plain_files_of_a_sane_size_are_listed(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from forex import trackers

    folder = workdir / "models/output/runs/sft"
    folder.mkdir(parents=True)
    (folder / "good.0").write_bytes(b"x")
    (folder / "odd name:").write_bytes(b"x")
    (folder / "large").write_bytes(b"x" * 11)
    (folder / "link").symlink_to(folder / "good.0")
    monkeypatch.setattr(trackers, "_LARGEST", 10)
    assert [one["path"] for one in trackers.files()] == ["models/output/runs/sft/good.0"]


def test_another_tracker_is_no_other_training() -> None:
    from forex.errors import BadConfig

    with pytest.raises(BadConfig, match=r"run.trackers: 'mlflow' is unknown"):
        _loaded("mlflow")
    assert _loaded("tensorboard").run.trackers == ("tensorboard",)


def _loaded(name: str) -> Any:
    import tempfile

    from forex import config

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "c.toml"
        file.write_text(f"[run]\ntrackers = {json.dumps([name])}\n")
        return config.load(file, batch_size=32)
