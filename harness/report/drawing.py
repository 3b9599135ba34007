"""Pieces of a static SVG plot: scales, round numbers on them, rules and words. Pure.

Colours are the page's: a plot names classes, the style sheet says what they look like. Each plot is an image with a
title and a description; the numbers behind it stand beside it in the page.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape
from typing import Final, NamedTuple

from harness.report import numbers

WIDE: Final = 360
"""Width of every plot; the page stretches it."""

_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
"""Seconds between two marks on an axis of time; days beyond."""


class Scale(NamedTuple):
    """Maps values from ``low`` to ``high`` on places from ``start`` to ``end`` of a drawing."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The place of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def apart(low: float, high: float) -> tuple[float, float]:
    """Two bounds that are far enough apart to draw between them."""
    if high - low > 1e-9 * max(abs(low), abs(high)) and high - low > 1e-200:
        return low, high
    pad = max(abs(low) * 0.01, 1e-3)
    return low - pad, high + pad


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between two that are apart, about ``most`` of them."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(times * power for times in (1, 2, 2.5, 5, 10) if times * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    places = 12 - math.floor(math.log10(step))
    found = (round((first + index) * step, places) for index in range(most + 2))
    return [tick for tick in found if tick <= high + step * 1e-9]


def hours(across: Scale, most: int) -> list[tuple[float, str]]:
    """Round times (epoch seconds) within a scale, about ``most`` of them, and their words.

    Seconds are told where minutes would repeat, and dates where days pass.
    """
    span = across.high - across.low
    step = next((one for one in _STEPS if one * most >= span), 86400 * math.ceil(span / 86400 / most))
    first = math.ceil(across.low / step) * step
    marks = [first + index * step for index in range(most + 2) if first + index * step <= across.high]
    if span > 3 * 86400:
        return [(at, numbers.day(at)[:-5]) for at in marks]
    return [(at, numbers.clock(at) + (f":{int(at) % 60:02d}" if step < 60 else "")) for at in marks]


def drawing(ident: str, title: str, description: str, high: float, parts: Iterable[str]) -> str:
    """The whole image; ``ident`` is its name in the page."""
    named = f'<title id="{ident}-t">{escape(title)}</title><desc id="{ident}-d">{escape(description)}</desc>'
    size = f'viewBox="0 0 {WIDE} {high:g}" width="{WIDE}" height="{high:g}"'
    return f'<svg role="img" aria-labelledby="{ident}-t {ident}-d" {size}>{named}{"".join(parts)}</svg>'


def rule(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line of a class."""
    return f'<path class="{kind}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'


def words(x: float, y: float, text: str, anchor: str = "start") -> str:
    """Words at a place, which is their start, middle or end."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def bar(x: float, y: float, width: float, high: float, kind: str) -> str:
    """A filled rectangle of a class."""
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{high:g}"/>'


def dot(x: float, y: float, radius: float, kind: str) -> str:
    """A filled circle of a class."""
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"/>'
