"""A curve in one line: its ends, its width, and values that are none."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli.sparkline import sparkline


@pytest.mark.parametrize(
    ("values", "width", "shown"),
    [
        ([], 10, ""),
        ([1.0], 10, "▁"),
        ([2.0, 2.0, 2.0], 10, "▁▁▁"),
        ([0, 1, 2, 3, 4, 5, 6, 7], 8, "▁▂▃▄▅▆▇█"),
        ([7, 6, 5, 4, 3, 2, 1, 0], 4, "█▆▃▁"),
        ([1.0, math.nan, 2.0], 3, "▁!█"),
        ([math.inf, -math.inf], 2, "!!"),
        ([1.0, math.nan, 2.0, 2.0], 2, "▁█"),
    ],
)
def test_the_curve(values: list[float], width: int, shown: str) -> None:
    assert sparkline(values, width) == shown


def test_a_terminal_without_unicode_has_a_curve_too() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8, unicode=False).isascii()


@given(st.lists(st.floats()), st.integers(1, 80))
def test_it_is_never_wider_than_asked_for_and_never_fails(values: list[float], width: int) -> None:
    assert len(sparkline(values, width)) == min(width, len(values))
