"""The package's evaluation.json: what it writes is read as it is, and a stranger's words are refused by their place."""

from __future__ import annotations

import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts import evaluation
from harness.core.errors import BadInput

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "training_pkg"))

from forex import judging
from forex.rows import Example

SHARE = {"accuracy": 0.5, "low": 0.4, "high": 0.6}
SOUND: dict[str, Any] = {
    "direction": {
        "rows": 10,
        "choices": ["UP", "DOWN"],
        "beats_majority": False,
        "doubts": ["some rows carry no date"],
        "trained": SHARE,
        "base": SHARE,
        "majority": SHARE,
    }
}


def test_what_it_says_is_read() -> None:
    found = evaluation.read(json.dumps(SOUND).encode())["direction"]
    assert (found.rows, found.beats_majority, found.doubts) == (10, False, ("some rows carry no date",))
    assert found.trained == evaluation.Accuracy(0.5, 0.4, 0.6)


def _bent(field: str, value: Any) -> bytes:
    bent: dict[str, Any] = json.loads(json.dumps(SOUND))
    *path, last = field.split(".")
    at = bent["direction"]
    for part in path:
        at = at[part]
    at[last] = value
    return json.dumps(bent).encode()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rows", 0),
        ("rows", -1),
        ("rows", "10"),
        ("trained.accuracy", 89),
        ("trained.accuracy", -0.1),
        ("trained.high", float("nan")),
        ("base.low", float("inf")),
        ("majority", None),
        ("doubts", "none"),
        ("doubts", ["x"] * 21),
        ("beats_majority", "yes"),
    ],
)
def test_an_odd_value_is_refused_by_its_place(field: str, value: Any) -> None:
    with pytest.raises(BadInput, match=rf"evaluation\.json .*{field.partition('.')[0]}"):
        evaluation.read(_bent(field, value))


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"null", b"{", b"\xff\xfe", b'{"direction": {}}', b" " * (2 << 20), b"[" * 100_000],
)
def test_what_is_no_evaluation_is_an_error(data: bytes) -> None:
    with pytest.raises(BadInput, match=r"evaluation\.json"):
        evaluation.read(data)


def test_a_whole_number_is_a_share() -> None:
    assert evaluation.read(_bent("trained.accuracy", 1))["direction"].trained.accuracy == 1


def _rows(first: dt.date, count: int) -> list[Example]:
    days = [first + dt.timedelta(days=number) for number in range(count)]
    return [Example(f"pair {day}", "UP" if day.day % 2 else "DOWN", date=day.isoformat()) for day in days]


def test_the_words_of_the_package_itself_are_read() -> None:
    train, later = _rows(dt.date(2024, 1, 1), 60), _rows(dt.date(2025, 1, 1), 60)
    told = judging.judge(
        train, later, lambda rows, _: ["UP"] * len(rows), lambda rows, _: ["DOWN"] * len(rows), learned=train
    )
    found = evaluation.read(json.dumps({"direction": told}).encode())["direction"]
    assert found.rows == 60
    assert found.trained.low <= found.trained.accuracy <= found.trained.high
