"""Answers of the box that no box can give: none of them becomes an observation."""

from __future__ import annotations

import dataclasses
import math

import pytest

from harness.core.answers import (
    Digest,
    Excerpt,
    GgufOnBox,
    JsonFile,
    Lines,
    Matches,
    Processes,
    SessionState,
    Tail,
    Text,
    Tree,
    WeightsOnBox,
)
from harness.core.ids import Sha256

HEX = Sha256("0123456789abcdef" * 4)


@pytest.mark.parametrize(
    ("exists", "size", "sha256", "known"),
    [
        (True, 0, HEX, True),
        (True, 1, HEX, True),
        (True, -1, HEX, False),
        (True, 1, None, False),
        (True, 1, Sha256(HEX[:-1]), False),
        (True, 1, Sha256(HEX.upper()), False),
        (False, 0, None, True),
        (False, 1, None, False),
        (False, 0, HEX, False),
    ],
)
def test_a_digest_is_of_a_file_that_is_there(exists: bool, size: int, sha256: Sha256 | None, known: bool) -> None:
    if known:
        assert Digest(exists, size, sha256).bytes == size
    else:
        with pytest.raises(ValueError, match=r"bytes with the SHA-256|not a SHA-256 digest"):
            Digest(exists, size, sha256)


@pytest.mark.parametrize(
    ("ended_s", "known"), [(None, True), (0.0, True), (5.5, True), (-0.1, False), (math.inf, False), (math.nan, False)]
)
def test_a_session_ended_at_a_time(ended_s: float | None, known: bool) -> None:
    if known:
        assert SessionState(True, False, 7, 0, ended_s).ended_s == ended_s
    else:
        with pytest.raises(ValueError, match="seconds ago"):
            SessionState(True, False, 7, 0, ended_s)


@pytest.mark.parametrize("field", ["pid", "exit_status"])
@pytest.mark.parametrize(
    ("number", "known"), [(None, True), (2**31 - 1, True), (1 - 2**31, True), (2**31, False), (-(2**31), False)]
)
def test_the_numbers_of_a_session_are_those_of_a_process(field: str, number: int | None, known: bool) -> None:
    numbers: dict[str, int | None] = {"pid": 7, "exit_status": 0, field: number}
    if known:
        assert getattr(SessionState(True, False, numbers["pid"], numbers["exit_status"]), field) == number
    else:
        with pytest.raises(ValueError, match="process"):
            SessionState(True, False, numbers["pid"], numbers["exit_status"])


@pytest.mark.parametrize(
    "nothing",
    [
        *[Text(exists=False), Tail(exists=False), Lines(exists=False), Excerpt(exists=False), Matches(exists=False)],
        *[JsonFile(exists=False), Digest(exists=False), GgufOnBox(exists=False), WeightsOnBox(exists=False)],
        *[Tree(exists=False, entries=()), Processes(())],
    ],
    ids=lambda nothing: type(nothing).__name__,
)
def test_of_what_is_not_there_nothing_is_told(nothing: object) -> None:
    assert dataclasses.is_dataclass(nothing)
    assert not any(getattr(nothing, field.name) for field in dataclasses.fields(nothing))


@pytest.mark.parametrize(
    ("status", "words"), [(None, "was killed"), (0, "ended with status 0"), (1, "ended with status 1")]
)
def test_how_a_session_ended_is_told(status: int | None, words: str) -> None:
    assert SessionState(True, False, 7, status).ending == words
