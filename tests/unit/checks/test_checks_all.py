"""Of every stage's checks: sound facts open the gate, and what was not seen is UNKNOWN, never PASS and never FAIL."""

from __future__ import annotations

import ast
import dataclasses
from typing import Any

import pytest

from harness.core.lifecycle import Stage
from harness.core.observed import Observed, unseen
from harness.core.verdict import Verdict
from harness.gates import plan
from tests.support.facts import PASSING, judge, sound_job

_FOR_PEOPLE = {
    (Stage.TRAINING, "last_lines"),
    (Stage.POSTTRAIN, "run"),
    (Stage.POSTTRAIN, "rows_here"),
    (Stage.POSTTRAIN, "at_work"),
    (Stage.POSTTRAIN, "weights"),
    (Stage.POSTTRAIN, "config"),
    (Stage.LAUNCH, "checkpoints"),
    (Stage.LAUNCH, "strategy"),
}
"""Facts that are shown and not judged: those of posttrain are judged of an adopted job, or of a folder, alone, and the
strategy of a job that states one."""


def observed_fields(stage: Stage) -> list[str]:
    facts = PASSING[stage]()
    fields = [field.name for field in dataclasses.fields(facts)]
    return [name for name in fields if isinstance(getattr(facts, name), Observed)]


def blind(stage: Stage, field: str) -> Any:
    return dataclasses.replace(PASSING[stage](), **{field: unseen("the line was cut")})


@pytest.mark.parametrize("stage", PASSING)
def test_sound_facts_pass_every_declared_check(stage: Stage) -> None:
    judged = judge(stage)
    assert set(judged) == set(plan.declared(stage, sound_job()))
    assert {name: said for name, said in judged.items() if said.verdict is not Verdict.PASS} == {}


@pytest.mark.parametrize(("stage", "field"), [(stage, name) for stage in PASSING for name in observed_fields(stage)])
def test_a_fact_that_was_not_seen_is_unknown(stage: Stage, field: str) -> None:
    judged = judge(stage, blind(stage, field))
    verdicts = {said.verdict for said in judged.values()}
    assert Verdict.FAIL not in verdicts, judged
    assert (Verdict.UNKNOWN in verdicts) == ((stage, field) not in _FOR_PEOPLE)
    for said in judged.values():
        assert said.verdict is Verdict.PASS or "the line was cut" in said.message


@pytest.mark.parametrize("stage", PASSING)
def test_no_check_passes_blindly(stage: Stage) -> None:
    blindfolded = [judge(stage, blind(stage, field)) for field in observed_fields(stage)]
    for check in plan.declared(stage, sound_job()):
        assert any(judged[check].verdict is Verdict.UNKNOWN for judged in blindfolded), check


def test_every_assertion_says_what_is_wrong() -> None:
    """Without words of its own a check would say what pytest's rewriting adds, and nothing where none is rewritten."""
    found = [
        (file, node) for file in plan.FOLDER.rglob("*.py") for node in ast.walk(ast.parse(file.read_text("utf-8")))
    ]
    assertions = [(file, node) for file, node in found if isinstance(node, ast.Assert)]
    assert len(assertions) > 60
    assert [f"{file.name}:{node.lineno}" for file, node in assertions if node.msg is None] == []
