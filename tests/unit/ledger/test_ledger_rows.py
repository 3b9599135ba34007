"""The row of a job: what a training was last seen to do, as JSON that any reader takes."""

from __future__ import annotations

import math

import pytest

from harness.ledger import rows
from harness.ledger.looks import RecordedPace
from harness.log.grammar import SFT
from harness.log.pace import TrainingPace
from tests.support.job_histories import Log


@pytest.mark.parametrize(("age_s", "left_s"), [(0.0, 120.0), (100.0, 20.0), (121.0, 0.0)])
@pytest.mark.parametrize(("loss", "told"), [(1.25, 1.25), (math.nan, None), (math.inf, None), (None, None)])
def test_a_training_is_told_as_it_was_seen_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, age_s: float, left_s: float, loss: float | None, told: float | None
) -> None:
    log = Log().rented()
    seen = RecordedPace(log.at, TrainingPace(30, 330, 120.0, SFT, loss, 2e-5))
    monkeypatch.setattr(rows, "recorded_pace", lambda _: seen)
    assert rows.row(log.history, log.at + age_s)["training"] == {
        "step": 30,
        "total": 330,
        "left_s": left_s,
        "trainer": SFT,
        "loss": told,
        "learning_rate": 2e-5,
        "seen_at": log.at,
    }
