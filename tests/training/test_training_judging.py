"""Accuracy with an interval that is not too narrow, and leaks found when they are there."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace

import pytest
from forex import judging
from forex.errors import DataDefect
from forex.rows import Example, Preference

UP, DOWN = "Direction: UP", "Direction: DOWN"


def rows(answers: list[str], first: dt.date, step: int = 7) -> list[Example]:
    return [
        Example(f"p{first}{at}", f"<think>\nx\n</think>\n\n{answer}", date=str(first + dt.timedelta(days=step * at)))
        for at, answer in enumerate(answers)
    ]


TRAIN = rows([UP, DOWN, DOWN], dt.date(2001, 1, 1))
LATER = rows([UP, DOWN] * 50, dt.date(2025, 1, 6))


def test_wilson_interval_of_independent_weeks() -> None:
    found = judging.accuracy(LATER, [UP] * 100)
    assert (found.right, found.of) == (50, 100)
    assert (found.low, found.high) == pytest.approx((0.40, 0.60), abs=0.005)


def test_rows_of_one_week_that_move_together_widen_the_interval() -> None:
    together = [
        Example(f"p{at}", UP if at < 50 else DOWN, date="2025-01-06" if at < 50 else "2025-03-03") for at in range(100)
    ]
    found = judging.accuracy(together, [UP] * 100)
    assert found.low < 0.2
    assert found.high > 0.8


def test_leaks_are_named() -> None:
    assert judging.leaks(TRAIN, LATER) == []
    assert "not later" in judging.leaks(TRAIN, rows([UP], dt.date(2000, 1, 1)))[0]
    assert "among the training prompts" in judging.leaks(TRAIN, [Example(TRAIN[0].prompt, UP, date="2025-01-06")])[0]
    assert "hold their own answer" in judging.leaks(TRAIN, [Example(f"is it {UP}?", UP, date="2025-01-06")])[0]
    assert "no date" in judging.leaks(TRAIN, [Example("p", UP)])[0]
    assert "no date" in judging.leaks([*TRAIN, Example("p", UP)], LATER)[0]


def test_dates_are_compared_as_days_whatever_their_spelling() -> None:
    learned = [Example("p", UP, date="20250601"), Example("q", UP, date="2025-03-01T10:00:00+00:00")]
    assert "not later than every training row (2025-06-01)" in judging.leaks(learned, LATER)[0]
    # As texts, the 15th of January would stand after the 1st of June.
    german = judging.leaks([Example("p", UP, date="01.06.2025")], [Example("q", UP, date="15.01.2025")])
    assert "no date (ISO)" in german[0]


def test_rows_of_another_kind_leak_as_well() -> None:
    learned: list[Example | Preference] = [*TRAIN, Preference(LATER[0].prompt, UP, DOWN, date="2030-01-01")]
    doubts = judging.judge(
        TRAIN, LATER, lambda asked, _: [UP] * len(asked), lambda asked, _: [UP] * len(asked), learned=learned
    )["doubts"]
    assert doubts == [
        "100 evaluation rows are not later than every training row (2030-01-01)",
        "1 evaluation prompts stand among the training prompts",
    ]


def test_foresight_is_doubted_and_a_coin_toss_is_not_praised() -> None:
    def perfect(asked: list[Example], _: object) -> list[str]:
        return [judging.answer_of(row) for row in asked]

    def constant(asked: list[Example], among: tuple[str, ...]) -> list[str]:
        return [among[0]] * len(asked)

    found = judging.judge(TRAIN, LATER, perfect, constant, learned=TRAIN)  # type: ignore[arg-type]  # lists are sequences
    assert found["trained"]["accuracy"] == 1.0
    assert "a leak until proven otherwise" in found["doubts"][0]
    found = judging.judge(TRAIN, LATER, constant, constant, learned=TRAIN)  # type: ignore[arg-type]  # lists are sequences
    assert not found["beats_majority"]
    assert found["doubts"] == []


def test_rows_without_a_choice_cannot_be_judged() -> None:
    free = rows([f"answer {at}" for at in range(20)], dt.date(2001, 1, 1))
    with pytest.raises(DataDefect, match="no choice among a few answers"):
        judging.judge(free, LATER, lambda asked, _: [""] * len(asked), lambda asked, _: [""] * len(asked), learned=free)


def test_a_kind_without_a_choice_stops_the_evaluation_before_anything_is_generated() -> None:
    from forex import chat, evaluate, template

    free = rows([f"answer {at}" for at in range(20)], dt.date(2001, 1, 1))
    model = SimpleNamespace(eval=lambda: pytest.fail("the model was asked"))
    with pytest.raises(DataDefect, match="no choice among a few answers"):
        evaluate.evaluate(
            model,
            chat.Chat(None, template.R1Turns(None)),
            {"direction": (TRAIN, LATER), "trade": (free, LATER)},
            learned=TRAIN,
        )
