"""Several ranks: admitted only when stated and proven here, and then they train as one process does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forex import admission, checkpoints, config, order, ranks, refusals, training
from forex.errors import Refused, TrainingDefect

PACKAGE = Path(ranks.__file__).parents[1]
DDP = {"TRAINING_STRATEGY": "ddp"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}


def proven(folder: Path, **changes: Any) -> Path:
    path = folder / admission.PROOF
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"strategy": "ddp", "ranks": 2, "proven": True, "base": "models/base", "versions": admission.versions()}
    path.write_text(json.dumps(told | changes), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("environment", "changes", "admitted"),
    [
        (DDP, {}, 2),
        ({}, {}, 0),
        ({"TRAINING_STRATEGY": "single"}, {}, 0),
        (DDP, {"proven": False}, 0),
        (DDP, {"proven": "yes"}, 0),
        (DDP, {"strategy": "single"}, 0),
        (DDP, {"base": "another"}, 0),
        (DDP, {"versions": {"torch": "1.0"}}, 0),
        (DDP, {"ranks": None}, 0),
    ],
)
def test_ranks_are_admitted_when_stated_and_proven_for_this(
    environment: dict[str, str],
    changes: dict[str, Any],
    admitted: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    proven(tmp_path, **changes)
    assert admission.ranks_proven(environment, "models/base") == admitted


@pytest.mark.parametrize("text", [None, "", "[]", "{}"])
def test_no_proof_admits_nobody(text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        proven(tmp_path).write_text(text, encoding="utf-8")
    assert admission.ranks_proven(DDP, "models/base") == 0


@pytest.mark.parametrize(
    ("environment", "count"),
    [
        (TORCHRUN, 0),
        (TORCHRUN, 8),
        ({**TORCHRUN, "LOCAL_WORLD_SIZE": "1"}, 0),
        ({**TORCHRUN, "ACCELERATE_USE_FSDP": "true"}, 2),
        ({**TORCHRUN, "ACCELERATE_DYNAMO_BACKEND": "NO"}, 2),
        ({**TORCHRUN, "DEEPSPEED_CONFIG_FILE": "x"}, 2),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, 2),
    ],
)
def test_whatever_is_not_proven_is_refused_as_ever(environment: dict[str, str], count: int) -> None:
    with pytest.raises(Refused):
        refusals.refuse_launchers(environment, proven=count)


def test_torchrun_with_the_ranks_that_are_proven_is_let_through() -> None:
    refusals.refuse_launchers(TORCHRUN, proven=2)


@pytest.mark.parametrize(
    ("environment", "visible"),
    [
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, "1"),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "1", "CUDA_VISIBLE_DEVICES": "4,7"}, "7"),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "0", "CUDA_VISIBLE_DEVICES": ""}, "0"),
        ({"CUDA_VISIBLE_DEVICES": "4,7"}, "4,7"),
        ({"LOCAL_RANK": "1"}, None),
    ],
)
def test_a_rank_sees_its_own_gpu(environment: dict[str, str], visible: str | None) -> None:
    ranks.see_one_gpu(environment)
    assert environment.get("CUDA_VISIBLE_DEVICES") == visible


def test_a_rank_that_trains_a_model_of_its_own_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks.require_wrapped(object())
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingDefect, match="2 ranks train a object"):
        ranks.require_wrapped(object())


def test_rows_that_cannot_be_shared_evenly_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(Refused, match="128 rows cannot be shared evenly by 3 ranks"):
        training.arguments(config.Config(32), training.Stage("sft", Path("out"), 1))


@pytest.mark.parametrize(
    ("count", "dealt"),
    [(1, [0, 1, 2, 3, 4, 5, 6, 7]), (2, [0, 2, 1, 3, 4, 6, 5, 7]), (4, [0, 1, 2, 3, 4, 5, 6, 7])],
)
def test_each_step_is_dealt_to_the_ranks(count: int, dealt: list[int]) -> None:
    assert order.dealt(range(8), 4, count) == dealt


def _losses(log: str) -> list[tuple[str, str, float]]:
    return [(one[1], one[2], float(one[3])) for one in re.finditer(r"\[(\w+)\] step (\d+)/\d+ .*? loss=(\S+)", log)]


@pytest.mark.slow
def test_two_ranks_train_as_one_process_does_and_leave_its_checkpoints(
    new_workdir: Callable[[], Path],
) -> None:
    """The same losses, the contract's lines once each, and checkpoints that belong to no number of ranks."""

    def run(folder: Path, count: int) -> str:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)] if count > 1 else []
        command = [sys.executable, *launcher, str(PACKAGE / "train_deepseek_forex.py"), "--config", "small.toml"]
        environ = {**os.environ, **(DDP if count > 1 else {}), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=folder, env=environ, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout

    def folder() -> Path:
        made = new_workdir()
        text = (made / "small.toml").read_text(encoding="utf-8")
        for old, new in (("= 7", "= 2"), ("accumulation = 2", "accumulation = 1"), ("epochs = 2.0", "epochs = 1.5")):
            assert old in text
            text = text.replace(old, new)
        (made / "small.toml").write_text(text + "[lora]\ndropout = 0.0\n", encoding="utf-8")
        return made

    alone, together = folder(), folder()
    proven(together)
    expected, said = run(alone, 1), run(together, 2)
    for (kind, step, loss), (other, at, wanted) in zip(_losses(said), _losses(expected), strict=True):
        assert (kind, step) == (other, at)
        assert loss == pytest.approx(wanted, rel=1e-4)
    assert said.count("PLAN ") == said.count("TRAINING COMPLETE") == 1
    assert "world_size=2 device_map=auto devices=cpu" in said
    assert json.loads((together / "run.json").read_text(encoding="utf-8"))["world_size"] == 2
    assert not list(together.rglob("rng_state_*"))
    last = checkpoints.newest_complete(together / "models/output/dpo", "dpo")
    assert last is not None
    assert last.step == 3
