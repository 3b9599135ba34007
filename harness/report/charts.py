"""Plots of a training's curves: lines over steps or time, with the sentence and the table that say the same. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import Final

from harness.report import numbers
from harness.report.drawing import WIDE, Scale, apart, dot, drawing, hours, rule, ticks, words
from harness.report.model import Along, Curve, Line
from harness.report.series import evenly

_HIGH: Final = 185
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, WIDE - 14, 10, _HIGH - 24
_LOOKS: Final = 40
"""Places of a plot that tell their value under the pointer."""

_DOTTED: Final = 24
"""Points of a line up to which each is drawn as a dot, too."""


def lines(curve: Curve, ident: str) -> str:
    """The plot of a curve that has a line."""
    xs = [x for line in curve.lines for x, _ in line.points]
    ys = [y for line in curve.lines for _, y in line.points if y is not None]
    across = Scale(*apart(min(xs), max(xs)), _LEFT, _RIGHT)
    up = Scale(*_bounds(curve, ys), _BOTTOM, _TOP)
    drawn = (part for index, line in enumerate(curve.lines) for part in _line(line, index, across, up))
    return drawing(
        ident, curve.title, told(curve), _HIGH, [*_axes(curve, across, up), *drawn, *_looks(curve, across, up)]
    )


def told(curve: Curve) -> str:
    """The plot in a sentence: where its first line begins and ends, and its bounds."""
    points, where = curve.lines[0].points, _where(curve)
    known = [(y, x) for x, y in points if y is not None]
    odd = next((x for x, y in points if y is None), None)
    wrong = "" if odd is None else f"; no number at {where(odd)}"
    if not known:
        return f"no number at all, from {where(points[0][0])} to {where(points[-1][0])}"

    def at(point: tuple[float, float]) -> str:
        return f"{_measure(point[0], curve)} at {where(point[1])}"

    if len(known) == 1:
        return f"{at(known[0])}{wrong}"
    return f"{at(known[0])}, {at(known[-1])}; lowest {at(min(known))}, highest {at(max(known))}{wrong}"


def rows(curve: Curve, most: int = 25) -> list[tuple[str, ...]]:
    """A table of the curve: steps or times, evenly chosen, and each line's number there."""
    where, lines_ = _where(curve), [dict(line.points) for line in curve.lines]
    points = curve.lines[0].points
    chosen = [points[index][0] for index in evenly(len(points), most)]
    return [(where(x), *(numbers.figure(one.get(x)) for one in lines_)) for x in chosen]


def _axes(curve: Curve, across: Scale, up: Scale) -> Iterator[str]:
    for tick in ticks(up.low, up.high, 4):
        yield rule(_LEFT, up(tick), _RIGHT, up(tick), "grid")
        yield words(_LEFT - 6, up(tick) + 4, _short(tick), "end")
    if curve.along is Along.TIME:
        marks = hours(across, 4)
    else:
        marks = [(tick, f"{tick:,.0f}") for tick in ticks(across.low, across.high, 5) if tick == int(tick)]
    for at, name in marks:
        yield words(across(at), _HIGH - 7, name, "middle")
    yield rule(_LEFT, _BOTTOM, _RIGHT, _BOTTOM, "axis")


def _short(tick: float) -> str:
    return f"{tick:.10g}" if tick == 0 or 1e-3 <= abs(tick) < 1e5 else f"{tick:.3g}"


def _line(line: Line, index: int, across: Scale, up: Scale) -> Iterator[str]:
    """A line, broken where there was no number; such a place is crossed out at the top."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in line.points:
        if y is None:
            runs.append([])
            yield f'<path class="bad" d="M{across(x) - 4:.1f} {_TOP - 4}l8 8m0-8l-8 8"/>'
        else:
            runs[-1].append((across(x), up(y)))
    for run in filter(None, runs):
        yield f'<polyline class="l l{index}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in run)}"/>'
        if len(line.points) <= _DOTTED or len(run) == 1:
            yield from (dot(x, y, 2.6, f"d{index}") for x, y in run)


def _looks(curve: Curve, across: Scale, up: Scale) -> Iterator[str]:
    """Columns that tell the number under the pointer: a title does in every browser, and the style sheet marks it."""
    points = [(x, y) for x, y in curve.lines[0].points if y is not None]
    chosen = [points[index] for index in evenly(len(points), _LOOKS)]
    edges = [(across(before[0]) + across(after[0])) / 2 for before, after in pairwise(chosen)]
    columns = pairwise([_LEFT, *edges, _RIGHT])
    where = _where(curve)
    for (x, y), (start, end) in zip(chosen, columns, strict=False):  # none is chosen where no point is a number
        yield f'<g class="look"><title>{escape(f"{where(x)}: {_measure(y, curve)}")}</title>'
        yield f'<rect x="{start:.1f}" y="{_TOP}" width="{end - start:.1f}" height="{_BOTTOM - _TOP}"/>'
        yield f'<path d="M{across(x):.1f} {_TOP}V{_BOTTOM}"/>{dot(across(x), up(y), 3.5, "at")}</g>'


def _bounds(curve: Curve, ys: Sequence[float]) -> tuple[float, float]:
    """From zero, but for losses, of which only the course tells something; per cent go to 100."""
    low, high = min(ys, default=0.0), max(ys, default=1.0)
    if curve.unit == "%":
        return min(0.0, low), max(100.0, high)
    if curve.unit == "nats":
        pad = (high - low) * 0.06
        return apart(low - pad, high + pad)
    return apart(min(0.0, low), high * 1.06 if high > 0 else high)


def _where(curve: Curve) -> Callable[[float], str]:
    return numbers.clock if curve.along is Along.TIME else "step {:,.0f}".format


def _measure(y: float, curve: Curve) -> str:
    return f"{numbers.figure(y)}{'' if curve.unit in {'', '%'} else ' '}{curve.unit}"
