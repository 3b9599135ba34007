"""Accuracy of a set of decisions, and a look for rows that give their answers away. Pure."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import DataDefect
from .rows import Example, Preference

SUSPICIOUS = 0.05
"""Beyond chance this much above the majority class is a leak until proven otherwise: FX is close to a coin toss."""

_Z = 1.959963984540054
"""The normal quantile of a two-sided interval of 95 %."""

MOST_CHOICES = 8


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Right answers among all, with a 95 % interval that treats all rows of one calendar week as one observation."""

    right: int
    of: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """Right answers as a share."""
        return self.right / self.of


Decide = Callable[[Sequence[Example], Sequence[str]], list[str]]
"""Gives each row one of the possible answers."""

Learned = Sequence[Example | Preference]
"""Every row that the model was trained on, whatever its kind."""


def judge(
    train: Sequence[Example], later: Sequence[Example], trained: Decide, untrained: Decide, *, learned: Learned
) -> dict[str, Any]:
    """One kind of rows: three accuracies with intervals, and everything that makes them doubtful."""
    among = decisions(train, later)
    found = {
        "trained": accuracy(later, trained(later, among)),
        "base": accuracy(later, untrained(later, among)),
        "majority": accuracy(later, [among[0]] * len(later)),
    }
    doubts = leaks(learned, later)
    if found["trained"].low > found["majority"].share + SUSPICIOUS:
        doubts.append(f"more than {SUSPICIOUS:.0%} above the majority class: a leak until proven otherwise")
    return {
        "rows": len(later),
        "choices": list(among),
        "beats_majority": found["trained"].low > found["majority"].share,
        "doubts": doubts,
        **{
            name: {"accuracy": round(value.share, 4), "low": round(value.low, 4), "high": round(value.high, 4)}
            for name, value in found.items()
        },
    }


def answer_of(row: Example) -> str:
    """A row's decision: the last line of its completion."""
    return row.completion.rstrip().rpartition("\n")[2].strip()


def decisions(train: Sequence[Example], later: Sequence[Example]) -> tuple[str, ...]:
    """The decisions among which the rows choose, the most frequent first; raises DataDefect when they are no choice."""
    among = tuple(name for name, _ in Counter(answer_of(row) for row in train).most_common())
    if not 2 <= len(among) <= MOST_CHOICES or any(answer_of(row) not in among for row in later):
        raise DataDefect(
            "the rows' last lines are no choice among a few answers; they cannot be evaluated as decisions"
        )
    return among


def accuracy(rows: Sequence[Example], given: Sequence[str]) -> Accuracy:
    """Accuracy with its interval.

    Pairs move together and windows overlap, so rows of one week are no independent tosses: the interval
    is the larger of Wilson's and the normal one with week-clustered variance.
    """
    right = [answer == answer_of(row) for row, answer in zip(rows, given, strict=True)]
    count, hits = len(right), sum(right)
    low, high = _wilson(hits, count)
    share = hits / count
    by_week: dict[str, float] = defaultdict(float)
    for row, hit in zip(rows, right, strict=True):
        by_week[_week(row.date)] += hit - share
    half = _Z * math.sqrt(sum(total * total for total in by_week.values())) / count
    return Accuracy(hits, count, max(0.0, min(low, share - half)), min(1.0, max(high, share + half)))


def leaks(learned: Learned, later: Sequence[Example]) -> list[str]:
    """Ways in which a model could know an evaluation row's answer without foresight, in words; empty when none."""
    found = []
    days = [_day(row.date) for row in learned]
    last = max((day for day in days if day), default=None)
    early = [row for row in later if last and (day := _day(row.date)) and day <= last]
    if early:
        found.append(f"{len(early)} evaluation rows are not later than every training row ({last})")
    if not all(days) or not all(_day(row.date) for row in later):
        found.append("some rows carry no date (ISO): that evaluation is later than training cannot be shown")
    known = {row.prompt for row in learned}
    if repeated := sum(row.prompt in known for row in later):
        found.append(f"{repeated} evaluation prompts stand among the training prompts")
    if told := sum(answer_of(row) in row.prompt for row in later):
        found.append(f"{told} evaluation prompts hold their own answer")
    return found


def _day(date: str) -> dt.date | None:
    """The day of an ISO date or time; None when it is neither."""
    try:
        return dt.datetime.fromisoformat(date).date()
    except ValueError:
        return None


def _week(date: str) -> str:
    """The ISO year and week of a date; a row without one stands for itself in one common week."""
    if (day := _day(date)) is None:
        return ""
    year, week, _ = day.isocalendar()
    return f"{year}-{week:02}"


def _wilson(hits: int, count: int) -> tuple[float, float]:
    """Wilson's score interval (J. Am. Stat. Assoc. 22, 1927)."""
    share, square = hits / count, _Z * _Z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = _Z / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    return middle - half, middle + half
