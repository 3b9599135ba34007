"""The comparison of a finished model with its base, as it is asked of the box, and what is made of its answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from harness.artifacts.parts import Artifact
from harness.core.answers import Ran
from harness.core.observed import CouldNotLook, seen
from harness.core.questions import Answers, Command
from harness.facts import finetune
from harness.facts.finetune import Carried, Comparison
from tests.support.facts import BOX, MODEL, SHA, sound_job

TOLD = {"tensors": {"q": [1.0, 0.01, 2.5, 0.001]}, "unknown": {"k": "odd"}, "doubt": "a doubt", "elements": 4096}


def look(ran: Ran, artifact: Artifact | None, asked: list[Command], **package: Any) -> Comparison:
    def probe(questions: Sequence[Command], *, timeout: float) -> Answers:
        asked.extend(questions)
        assert timeout > questions[0].timeout
        return Answers({questions[0]: seen(ran)})

    host = SimpleNamespace(probe=probe)
    context: Any = SimpleNamespace(
        job=sound_job(package=package), history=SimpleNamespace(artifact=artifact), host=lambda: host
    )
    return finetune.look(context)


ARTIFACT = Artifact(MODEL, 1, SHA)


@pytest.mark.parametrize(
    ("install", "python"), [(["/venv/bin/python", "-m", "pip"], "/venv/bin/python"), ([], "python3")]
)
def test_the_comparison_runs_by_the_packages_python_and_its_numbers_are_kept(install: list[str], python: str) -> None:
    asked: list[Command] = []
    told = look(Ran(0, json.dumps(TOLD)), ARTIFACT, asked, install=install)
    assert told == Comparison({"q": Carried(1.0, 0.01, 2.5, 0.001)}, {"k": "odd"}, "a doubt", 4096)
    (command,) = asked
    assert (command.argv[:2], command.cwd) == ((python, "-c"), BOX)
    assert "models/output/final/forex-r1-v3.Q8_0.gguf" in command.argv[2]
    assert "models/output/adapter" in command.argv[2]


@pytest.mark.parametrize(
    ("ran", "said"),
    [
        (
            Ran(1, json.dumps(TOLD), "x" * 400 + "MemoryError"),
            "^the comparison ended with status 1: x{289}MemoryError$",
        ),
        (Ran(-9, "", ""), "^the comparison ended with status -9: $"),
        (Ran(0, json.dumps({**TOLD, "tensors": {"q": [1.0]}})), "tensors"),
    ],
)
def test_a_comparison_that_failed_or_told_something_else_compared_nothing(ran: Ran, said: str) -> None:
    with pytest.raises(CouldNotLook, match=said):
        look(ran, ARTIFACT, [])


def test_before_anything_was_recorded_the_box_is_not_asked() -> None:
    asked: list[Command] = []
    with pytest.raises(CouldNotLook, match="no artifact was recorded on the box"):
        look(Ran(0, json.dumps(TOLD)), None, asked)
    assert asked == []
