"""Whatever a box says, a look ends in a value or in a problem: what cannot be read or written down is UNKNOWN."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import facts
from harness.artifacts import adapter
from harness.core.answers import BoxTime, JsonFile, Ran, Text
from harness.core.canonical import parse
from harness.core.errors import BadInput, HostUnreachable, MissingExtra, Refused
from harness.core.lifecycle import Stage
from harness.core.observed import CouldNotLook, Observed, seen, unseen
from harness.core.ports import RunResult
from harness.core.questions import Now, Question, ReadText
from harness.core.verdict import Verdict
from harness.facts import install
from harness.facts.reading import ask, attempt, json_text
from harness.gates.facts_file import FactsFile, read_facts
from harness.remote.probe import probe
from tests.support.facts import NOW, PASSING, judge_file, sound_job

SURROGATE_KEY = '{"\\ud800": 1}'
SURROGATE = '{"steps": "\\ud800"}'
DEEP = "[" * 300 + "]" * 300
DEEPEST = "[" * 100_000 + "]" * 100_000
STRANGE = [SURROGATE_KEY, SURROGATE, DEEP, DEEPEST, "{not json", "1" * 5000]


@pytest.mark.parametrize("text", STRANGE)
def test_json_that_cannot_be_written_down_again_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)
    assert json_text(seen(Text(exists=True, bytes=len(text), text=text))).problem is not None


def test_other_json_is_read() -> None:
    text = '{"a": [1, 2.5, null, true, "é\\n", {}], "b": "\\ud83d\\ude00"}'
    assert parse(text) == parse(text.encode()) == json.loads(text)
    assert parse("[" * 60 + "]" * 60) == json.loads("[" * 60 + "]" * 60)


@pytest.mark.parametrize("text", STRANGE)
def test_libraries_that_cannot_be_read_are_not_seen(text: str) -> None:
    assert attempt(lambda: install._libraries(Ran(0, f"IMPORTS {text}\n"))).problem is not None


@pytest.mark.parametrize("shape", [[2**70, 0], [2**62, 2**62, 0]])
def test_an_adapter_of_absurd_shape_is_a_finding(tmp_path: Path, shape: list[int]) -> None:
    (tmp_path / "adapter_config.json").write_text('{"r": 64}')
    tensor = {"x.lora_B.weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}
    header = json.dumps(tensor).encode()
    (tmp_path / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert adapter.inspect(tmp_path).problems


@pytest.mark.parametrize("error", [OverflowError("too large"), RecursionError(), KeyError("x"), struct.error("odd")])
def test_no_error_escapes_a_look(error: Exception) -> None:
    def look() -> int:
        raise error

    told = attempt(look).problem
    assert told is not None
    assert type(error).__name__ in told


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (BadInput("the file is odd"), "the file is odd"),
        (Refused("not now", remedy="later"), "not now"),
        (CouldNotLook("see the other check"), "see the other check"),
        (OSError(5, "Input/output error"), "[Errno 5] Input/output error"),
        (MissingExtra("this look", "training"), "pip install 'gold-standard-harness[training]'"),
        (ValueError("odd \x1b[2J" + "x" * 1000), "unexpected answer: ValueError: odd "),
    ],
)
def test_what_is_known_of_a_failure_is_told_in_its_own_words(error: Exception, said: str) -> None:
    def look() -> int:
        raise error

    told = attempt(look).problem or ""
    assert told.endswith(said) if isinstance(error, MissingExtra) else told.startswith(said)
    assert "unexpected" not in told or isinstance(error, ValueError)
    assert len(told) < 510
    assert told.isprintable()


def test_a_box_that_cannot_be_asked_is_the_problem_of_every_question() -> None:
    def away() -> Any:
        raise HostUnreachable("the box does not answer")

    context: Any = SimpleNamespace(host=away)
    questions: tuple[Question[Any], ...] = (Now(), ReadText("x", 10))
    answers = ask(context, *questions)
    assert [answers[one].problem for one in questions] == ["the box does not answer"] * 2


def test_a_text_of_which_only_the_beginning_was_read_is_no_json() -> None:
    told = json_text(seen(Text(exists=True, bytes=9_000_000, text="{}", truncated=True)))
    assert told.problem == "the file is too large to read: 9000000 bytes"
    assert (json_text(seen(Text(exists=True, bytes=1, text="{"))).problem or "").startswith("not JSON: ")
    assert json_text(seen(Text(exists=False))).get() == JsonFile(exists=False)
    assert json_text(seen(Text(exists=True, bytes=2, text="{}"))).get() == JsonFile(exists=True, bytes=2, json={})


def test_facts_that_no_longer_fit_name_what_does_not(tmp_path: Path) -> None:
    file = roundtrip(tmp_path, Stage.LAUNCH, PASSING[Stage.LAUNCH]())
    odd = dataclasses.replace(file, facts={**file.facts, "since_launch_s": "soon"})
    with pytest.raises(BadInput, match="the recorded facts of stage launch do not fit: since_launch_s"):
        facts.typed(odd)


def test_a_fact_of_our_own_that_cannot_be_written_down_is_an_error_of_ours() -> None:
    taken = dataclasses.replace(PASSING[Stage.LAUNCH](), since_launch_s="soon")
    with pytest.warns(UserWarning, match="float"), pytest.raises(ValueError, match="valid number"):
        facts.recordable(Stage.LAUNCH, taken)


def test_what_is_too_deep_to_be_written_down_is_told_and_ends_nothing() -> None:
    deep: object = {}
    for _ in range(100_000):
        deep = [deep]
    taken = dataclasses.replace(PASSING[Stage.LAUNCH](), run=seen(JsonFile(exists=True, json=deep)))
    told = facts.recordable(Stage.LAUNCH, taken)["run"]
    assert told["value"] is None
    assert told["problem"].startswith("what was seen cannot be written down: ")


@pytest.mark.parametrize("value", [json.loads(SURROGATE_KEY), json.loads(SURROGATE), json.loads(DEEP)])
@pytest.mark.parametrize("wrap", [lambda v: {"value": v}, lambda v: {"problem": v}])
def test_only_the_answer_that_is_strange_is_a_problem(wrap: Callable[[object], object], value: object) -> None:
    odd, now = ReadText("x", 10), Now()
    line = json.dumps({"0": wrap(value), "1": {"value": {"time": 1.0}}})
    answers = probe.parse(RunResult(0, f"m:{line}".encode(), b""), "m:", [odd, now])
    told = answers[odd].problem
    assert told is not None
    assert told.encode()
    assert answers[now].value == BoxTime(1.0)


def roundtrip(folder: Path, stage: Stage, taken: object) -> FactsFile:
    file = folder / "facts.json"
    file.write_bytes(FactsFile(stage, sound_job(), NOW, 1.0, facts.recordable(stage, taken)).dump())
    return read_facts(file)


@pytest.mark.parametrize("stage", PASSING)
def test_facts_are_written_as_they_are(tmp_path: Path, stage: Stage) -> None:
    taken = PASSING[stage]()
    assert facts.recordable(stage, taken) == facts.adapter(stage).dump_python(taken, mode="json")
    assert facts.typed(roundtrip(tmp_path, stage, taken)) == taken


@pytest.mark.parametrize(
    "strange",
    [
        seen(JsonFile(exists=True, json=json.loads(SURROGATE_KEY))),
        seen(JsonFile(exists=True, json=json.loads(SURROGATE))),
        seen(JsonFile(exists=True, json=json.loads("[" * 210 + "]" * 210))),
        seen(JsonFile(exists=True, json=json.loads(DEEP))),
        unseen("\ud800"),
    ],
)
def test_what_cannot_be_written_down_is_unknown(tmp_path: Path, strange: Observed[JsonFile]) -> None:
    taken = dataclasses.replace(PASSING[Stage.LAUNCH](), run=strange)
    judged = judge_file(roundtrip(tmp_path, Stage.LAUNCH, taken))
    told = {name: said for name, said in judged.items() if said.verdict is not Verdict.PASS}
    assert {name: said.verdict for name, said in told.items()} == dict.fromkeys(
        ("trained_rows_are_yours", "effective_config_logged"), Verdict.UNKNOWN
    )
    assert all("cannot be written down" in said.message for said in told.values())
