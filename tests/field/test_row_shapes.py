"""Rows of other shapes than the contract's, where the job file says so: those read, and those refused, by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts.dataset import rows, sound, texts
from harness.artifacts.dataset.contract import Schema, Teaching
from tests.field.case import field_case

OWN = "own: the rules of rows_are"
SHAREGPT = "axolotl-ai-cloud/axolotl docs/dataset-formats/conversation.qmd"


def said(*turns: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


def shared(*turns: tuple[str, str]) -> dict[str, Any]:
    return {"conversations": [{"from": role, "value": text} for role, text in turns]}


Q, A = ("user", "Where?"), ("assistant", "There.")
CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "now"}}]}


@pytest.mark.parametrize(
    ("row", "refused"),
    [
        field_case("one exchange", OWN, said(Q, A), ""),
        field_case("three exchanges", OWN, said(Q, A, Q, A, Q, A), ""),
        field_case("a system before them", OWN, said(("system", ""), Q, A), ""),
        field_case("a developer before them", OWN, said(("developer", "Be brief."), Q, A), ""),
        field_case("ShareGPT", SHAREGPT, shared(("system", "x"), ("human", "Where?"), ("gpt", "There.")), ""),
        field_case("ShareGPT, capitals", OWN, shared(("Human", "Where?"), ("gpt", "There.")), ""),
        field_case(
            "a tool answers",
            OWN,
            {
                "messages": [
                    {"role": "user", "content": "When?"},
                    CALL,
                    {"role": "tool", "content": "9"},
                    said(A)["messages"][0],
                ]
            },
            "",
        ),
        field_case(
            "parts",
            OWN,
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "?"}]}, said(A)["messages"][0]]},
            "",
        ),
        field_case("both columns, one empty", OWN, {**said(Q, A), "conversations": None}, ""),
        field_case("a date that is a number", OWN, {**said(Q, A), "date": 20240101, "pair": 3}, ""),
        field_case("no turns", OWN, said(), "ends with no turn at all"),
        field_case(
            "an answer first",
            SHAREGPT,
            shared(("gpt", "Hello."), ("human", "Hi")),
            "turn 1 of 'conversations' is by assistant",
        ),
        field_case("two questions", OWN, said(Q, Q, A), "turn 2 of 'messages' is by user, after user"),
        field_case("two answers", OWN, said(Q, A, A), "turn 3 of 'messages' is by assistant, after assistant"),
        field_case("a late system", OWN, said(Q, A, ("system", "x"), Q, A), "turn 3 of 'messages' is by system"),
        field_case(
            "two systems", OWN, said(("system", "x"), ("system", "y"), Q, A), "turn 2 of 'messages' is by system"
        ),
        field_case("a question last", OWN, said(Q, A, Q), "ends with user: there is no answer to learn"),
        field_case(
            "a tool last",
            OWN,
            {"messages": [{"role": "user", "content": "When?"}, CALL, {"role": "tool", "content": "9"}]},
            "ends with tool",
        ),
        field_case("an empty answer", OWN, said(Q, ("assistant", " \n")), "turn 2 of 'messages' is empty"),
        field_case("an empty question", OWN, said(("user", ""), A), "turn 1 of 'messages' is empty"),
        field_case(
            "nobody known", OWN, said(Q, ("critic", "No.")), "turn 2 of 'messages' is by 'critic', who is not known"
        ),
        field_case("no speaker", OWN, {"messages": [{"content": "?"}]}, "a turn in 'messages' has no speaker"),
        field_case("no content", OWN, {"messages": [{"role": "user"}, said(A)["messages"][0]]}, "says nothing"),
        field_case("a number as content", OWN, said(Q, ("assistant", 7)), "says what is not text"),  # type: ignore[arg-type]
        field_case("turns as text", OWN, {"messages": "user: Where?"}, "not a list of turns"),
        field_case("no turns at all", OWN, {"prompt": "Where?", "completion": "There."}, "there is no list of turns"),
        field_case("half a character", OWN, said(Q, ("assistant", "\ud83d")), "half of a surrogate pair"),
    ],
)
def test_a_conversation(tmp_path: Path, row: dict[str, Any], refused: str) -> None:
    assert_read(tmp_path, [row], Teaching.CONVERSATIONS, refused)


@pytest.mark.parametrize(
    ("row", "refused"),
    [
        field_case("a text", OWN, {"text": "Once upon a time."}, ""),
        field_case("with other fields", OWN, {"text": "Once.", "meta": {"source": 7}, "date": 3}, ""),
        field_case("a chat that is rendered", OWN, {"text": "<|im_start|>user\nWhere?<|im_end|>"}, ""),
        field_case("not closed thoughts", OWN, {"text": "<think> is a mark."}, ""),
        field_case("none", OWN, {"content": "Once."}, "'text' is missing"),
        field_case("null", OWN, {"text": None}, "'text' is missing"),
        field_case("a list", OWN, {"text": ["Once."]}, "'text' is not text"),
        field_case("blank", OWN, {"text": " \t"}, "'text' is empty"),
        field_case("half a character", OWN, {"text": "a\udc00b"}, "half of a surrogate pair"),
    ],
)
def test_a_plain_text(tmp_path: Path, row: dict[str, Any], refused: str) -> None:
    assert_read(tmp_path, [row], Teaching.TEXTS, refused)


def assert_read(folder: Path, lines: list[dict[str, Any]], teaching: Teaching, refused: str) -> None:
    """The row is read, among others that are plain, or is the one that is refused."""
    plain = {
        Teaching.TEXTS: {"text": "Another."},
        Teaching.CONVERSATIONS: said(("user", "Who?"), ("assistant", "She.")),
    }[teaching]
    file = folder / "real.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in [plain, *lines, plain]) + "\n", encoding="utf-8")
    found = rows.read(file, teaching)
    told = [(defect.line, defect.detail) for defect in found.defects]
    if refused:
        assert [line for line, _ in told] == [2], told
        assert refused in told[0][1]
    else:
        assert not told
        assert found.schema is (Schema.TEXT if teaching is Teaching.TEXTS else Schema.MESSAGES)
        assert len(texts.of(found).prompts) == 3
        assert {flaw.rule for flaw in sound.judge([found])} <= {"duplicate", "class_collapse"}


@pytest.mark.parametrize("teaching", [Teaching.CONVERSATIONS, Teaching.TEXTS])
def test_what_is_there_twice_is_said(tmp_path: Path, teaching: Teaching) -> None:
    row = {"text": "The same."} if teaching is Teaching.TEXTS else said(Q, A, ("user", "Why?"), ("assistant", "So."))
    file = tmp_path / "real.jsonl"
    file.write_text("\n".join([json.dumps(row)] * 2), encoding="utf-8")
    found = sound.judge([rows.read(file, teaching)], limits=sound.DatasetLimits(ignore=frozenset({"class_collapse"})))
    assert [flaw.rule for flaw in found] == ["duplicate"]


@pytest.mark.parametrize("teaching", [Teaching.EXAMPLES, Teaching.PREFERENCES])
@pytest.mark.parametrize("row", [said(Q, A, Q, A), shared(("human", "Where?"), ("gpt", "There.")), {"text": "Once."}])
def test_what_the_contract_refuses_it_goes_on_refusing(tmp_path: Path, row: dict[str, Any], teaching: Teaching) -> None:
    file = tmp_path / "real.jsonl"
    file.write_text(json.dumps(row), encoding="utf-8")
    assert len(rows.read(file, teaching).defects) == 1
