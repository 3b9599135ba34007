"""Plots with a row for each name: bars, intervals, spans of time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from harness.report import numbers
from harness.report.drawing import WIDE, Scale, apart, bar, dot, drawing, hours, rule, ticks, words

_LEFT: Final = 90
_ROW: Final = 23


class Bar(NamedTuple):
    """One bar: its name, its length, the part at its end that is marked, and the words beside it."""

    name: str
    length: float
    marked: float
    told: str


class Whisker(NamedTuple):
    """A share of 1 with its interval."""

    name: str
    at: float
    low: float
    high: float


def bars(given: Sequence[Bar], ident: str, title: str) -> str:
    """Horizontal bars from zero."""
    along = Scale(0.0, max(one.length for one in given) or 1.0, 0, WIDE - _LEFT - 84)
    parts = []
    for index, one in enumerate(given):
        y = 4 + index * _ROW
        whole, marked = max(along(one.length), 1.0), along(min(one.marked, one.length))
        parts += [words(_LEFT - 8, y + 14, one.name, "end"), bar(_LEFT, y + 3, whole - marked, 15, "bar")]
        if marked:
            parts.append(bar(_LEFT + whole - marked, y + 3, marked, 15, "idle"))
        parts.append(words(_LEFT + whole + 6, y + 14, one.told))
    return drawing(ident, title, "; ".join(f"{one.name} {one.told}" for one in given), 8 + _ROW * len(given), parts)


def whiskers(given: Sequence[Whisker], ident: str, title: str) -> str:
    """Shares as dots with their intervals, on one axis around all of them."""
    low, high = min(one.low for one in given), max(one.high for one in given)
    pad = max(0.02, (high - low) * 0.15)
    across = Scale(max(0.0, low - pad), min(1.0, high + pad), _LEFT, WIDE - 18)
    bottom = 8 + _ROW * len(given)
    parts = []
    for tick in ticks(across.low, across.high, 4):
        x = across(tick)
        parts += [rule(x, 4, x, bottom, "grid"), words(x, bottom + 14, numbers.share(tick), "middle")]
    for index, one in enumerate(given):
        y = 8 + _ROW * index + _ROW / 2
        left, right, kind = across(one.low), across(one.high), f"w w{index}"
        parts += [
            words(_LEFT - 8, y + 4, one.name, "end"),
            rule(left, y, right, y, kind),
            rule(left, y - 5, left, y + 5, kind),
            rule(right, y - 5, right, y + 5, kind),
            dot(across(one.at), y, 4.5, f"d{index}"),
        ]
    told = "; ".join(f"{one.name} {numbers.share(one.at)}" for one in given)
    return drawing(ident, title, told, bottom + 20, parts)


def spans(given: Sequence[tuple[str, float, float]], ident: str, title: str) -> str:
    """Names with the time from and to which each lasted (epoch seconds), on one axis of the time of day."""
    across = Scale(*apart(min(start for _, start, _ in given), max(end for _, _, end in given)), _LEFT, WIDE - 20)
    bottom = 4 + (_ROW - 4) * len(given)
    parts = []
    for at, told in hours(across, 4):
        parts += [rule(across(at), 2, across(at), bottom, "grid"), words(across(at), bottom + 15, told, "middle")]
    for index, (name, start, end) in enumerate(given):
        y = 4 + (_ROW - 4) * index
        parts += [
            words(_LEFT - 8, y + 13, name, "end"),
            bar(across(start), y + 3, max(across(end) - across(start), 1.5), 12, "bar"),
        ]
    told = "; ".join(
        f"{name} from {numbers.clock(start)}, {numbers.duration(end - start)}" for name, start, end in given
    )
    return drawing(ident, title, told, bottom + 22, parts)
