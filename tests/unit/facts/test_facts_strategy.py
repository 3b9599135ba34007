"""What was settled for a job's strategy is of use for exactly what it was proven for, and for nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.core.ids import InstanceId
from harness.facts import strategy
from harness.ledger.events import Staged
from harness.ledger.history import History
from harness.ledger.settled import StrategySettled
from tests.support.job_histories import DIGEST, Log, job

WANTED: dict[str, dict[str, Any]] = {
    "training": {"strategy": "ddp", "command": ["python3", "train.py"]},
    "package": {"prove": ["python3", "-m", "lib.prove"]},
}


@pytest.fixture
def log() -> Log:
    log = Log(job(**WANTED)).rented().add(Staged("/package", {"train.py": DIGEST}))
    return log.add(StrategySettled("ddp", "ddp", "6.4 times as fast", strategy.binding(log.history)))


@pytest.fixture
def history(log: Log) -> History:
    return log.history


def test_what_was_settled_is_used(history: History) -> None:
    assert strategy.used(history) == "ddp"
    assert strategy.look(history).get() == history.strategy == strategy.settled(history)


def test_what_was_never_settled_is_trained_without() -> None:
    history = Log(job(**WANTED)).rented().history
    assert strategy.settled(history) is None
    assert strategy.used(history) == "seeds"
    assert strategy.look(history).problem == "no strategy was settled before the launch"


CHANGES: dict[str, dict[str, Any]] = {
    "another strategy": {"training": {"strategy": "single"}},
    "another command": {"training": {"command": ["python3", "other.py"]}},
    "another proof": {"package": {"prove": ["python3", "-m", "lib.other"]}},
    "another base": {"model": {"base": "another/base"}},
    "another GPU": {"machine": {"gpu": "A100"}},
    "fewer GPUs": {"machine": {"gpus": 4}},
    "other rows a step": {"training": {"batch_size": 64}},
}


@pytest.mark.parametrize("name", CHANGES)
def test_with_another_job_file_it_was_not_settled(name: str, history: History) -> None:
    tables = {table: {**WANTED.get(table, {}), **fields} for table, fields in {**WANTED, **CHANGES[name]}.items()}
    assert strategy.settled(replace(history, job=job(**tables))) is None, name


def test_on_another_instance_or_with_another_package_it_was_not_settled(log: Log, history: History) -> None:
    assert history.rental is not None
    other = replace(history.rental, instance_id=InstanceId(99))
    sent = log.add(Staged("/package", {"train.py": DIGEST, "more.py": DIGEST})).history
    for bent in (replace(history, rental=other), replace(history, rental=None), sent):
        assert strategy.used(bent) == "seeds"
