"""The package as it runs on the box: its own directory is the root of its imports; one small finished run for all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

PACKAGE = Path(__file__).resolve().parents[2] / "training_pkg"
DRIVER = Path(__file__).with_name("crash_driver.py")
sys.path.insert(0, str(PACKAGE))

SMALL = """
[model]
max_length = 256
[model.built]
hidden_size = 64
[sft]
learning_rate = 5e-3
epochs = 4.0
max_steps = 7
accumulation = 2
warmup_steps = 1
micro_batch = 16
[dpo]
learning_rate = 1e-3
epochs = 2.0
warmup_steps = 1
micro_batch = 16
[run]
checkpoint_every = 2
checkpoint_limit = 2
gradient_checkpointing = false
threads = 1
[export]
name = "small"
"""


def _once(factory: pytest.TempPathFactory, name: str, make: Callable[[], Path]) -> Path:
    """A folder that is made once, however many workers run the tests."""
    run = factory.getbasetemp()
    folder = (run.parent if "PYTEST_XDIST_WORKER" in os.environ else run) / name
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            make().replace(folder)
    return folder


@pytest.fixture(scope="session")
def built_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole data set, built from the bank's rates."""
    from forex import builder, rates

    def build() -> Path:
        made = tmp_path_factory.mktemp("built")
        builder.build(made, history=rates.default_file(), eval_from="2025-01-01", seed=17)
        return made

    return _once(tmp_path_factory, "built", build)


@pytest.fixture(scope="session")
def new_workdir(built_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Makes a directory with a small configuration and a slice of the real data: 7 SFT and 4 DPO steps."""
    counts = {
        "real_feature_examples.jsonl": 80,
        "real_trade_scenarios.jsonl": 48,
        "real_dpo_pairs.jsonl": 64,
        "eval_feature_examples.jsonl": 12,
        "eval_trade_scenarios.jsonl": 8,
    }

    def make() -> Path:
        workdir = tmp_path_factory.mktemp("run")
        folder = workdir / "data" / "forex_integrated"
        folder.mkdir(parents=True)
        for name, count in counts.items():
            lines = (built_data / name).read_text(encoding="utf-8").splitlines(keepends=True)
            (folder / name).write_text("".join(lines[:: len(lines) // count][:count]), encoding="utf-8")
        (workdir / "small.toml").write_text(SMALL, encoding="utf-8")
        return workdir

    return make


Attempts = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def attempt() -> Attempts:
    """Runs the package several times in one directory, each attempt a process that may be killed at a named point.

    Answers, for each attempt, its ``signal`` (0 when it ended by itself), ``status`` and ``log``.
    """

    def run(workdir: Path, points: list[dict[str, Any] | None], *options: str) -> list[dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, str(DRIVER), json.dumps(points), "--config", "small.toml", *options],
            cwd=workdir,
            env={**os.environ, "PYTHONPATH": str(PACKAGE), "TMPDIR": str(workdir)},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        ends: list[dict[str, Any]] = json.loads((workdir / "attempts.json").read_text(encoding="utf-8"))
        return ends

    return run


@pytest.fixture(scope="session")
def finished(new_workdir: Callable[[], Path], attempt: Attempts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of one uninterrupted run; ``first-run.log`` has its words, later ones add to the log.

    Each worker has a copy of its own, in which the package may be run again.
    """

    def train() -> Path:
        workdir = new_workdir()
        (end,) = attempt(workdir, [None])
        assert end["status"] == 0, end["log"]
        (workdir / "first-run.log").write_text(end["log"], encoding="utf-8", newline="")
        return workdir

    trained = _once(tmp_path_factory, "finished", train)
    return shutil.copytree(trained, tmp_path_factory.mktemp("own") / "finished")
