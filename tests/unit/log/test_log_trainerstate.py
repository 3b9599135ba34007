"""trainer_state.json of a checkpoint: read as transformers writes it, and not looked at where it is anything else."""

from __future__ import annotations

import pytest

from harness.core.observed import CouldNotLook
from harness.log import trainerstate


def test_it_is_read_as_transformers_writes_it() -> None:
    told = trainerstate.read(
        b'{"global_step": 20, "max_steps": 30, "epoch": 0.5, "log_history": '
        b'[{"step": 10, "loss": 1.5}, {"step": 20, "loss": 1}, {"step": 20, "eval_loss": 2.0}]}'
    )
    assert (told.step, told.max_steps, told.epochs, dict(told.losses)) == (20, 30, 0.5, {10: 1.5, 20: 1.0})


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b'{"global_step": 20, "max', id="cut"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b"null", id="nothing"),
        pytest.param(b"[1]", id="a list"),
        pytest.param(b'{"global_step": 20, "max_steps": 30}', id="no history"),
        pytest.param(b'{"global_step": "x", "max_steps": 30, "log_history": []}', id="a step that is a word"),
        pytest.param(b'{"global_step": 1, "max_steps": 30, "log_history": [1]}', id="a record that is a number"),
        pytest.param(b'{"global_step": 1, "max_steps": 3, "log_history": [{"loss": 1.0}]}', id="a loss of no step"),
        pytest.param(b"[" * 100_000, id="nested too deep"),
    ],
)
def test_anything_else_could_not_be_looked_at(data: bytes) -> None:
    with pytest.raises(CouldNotLook, match="does not read"):
        trainerstate.read(data)
