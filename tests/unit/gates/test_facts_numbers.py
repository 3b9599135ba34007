"""A loss that is no number is still none when the recorded facts are read again: the gate fails, it does not wonder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.lifecycle import Stage
from harness.core.observed import seen
from harness.core.verdict import Verdict
from harness.gates.facts_file import read_facts
from tests.support import facts


@pytest.mark.parametrize("loss", ["nan", "inf"])
def test_a_loss_that_is_no_number_is_recorded_as_such(tmp_path: Path, loss: str) -> None:
    lines = [
        facts.V2,
        *facts.DATA,
        facts.PLAN,
        *facts.EPOCHS,
        f"[sft] step 1/330 (0%) loss={loss} lr=0.0001 s/step=nan",
    ]
    file = tmp_path / "launch.json"
    file.write_bytes(facts.facts_file(Stage.LAUNCH, replace(facts.launch(), log=seen(facts.log(*lines)))).dump())
    judged = facts.judge_file(read_facts(file))
    facts.assert_only(judged, Verdict.FAIL, {"first_losses_finite": f"sft step 1: {loss}"})
