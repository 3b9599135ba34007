"""The worst verdict wins, in whatever order they come."""

from __future__ import annotations

from itertools import permutations

import pytest

from harness.core.verdict import Verdict, worst

PASS, UNKNOWN, FAIL = Verdict.PASS, Verdict.UNKNOWN, Verdict.FAIL


@pytest.mark.parametrize(
    ("verdicts", "wins"),
    [
        *[(one, FAIL) for one in permutations((PASS, UNKNOWN, FAIL))],
        *[(one, UNKNOWN) for one in permutations((PASS, UNKNOWN))],
        *[(one, FAIL) for one in permutations((PASS, FAIL))],
        ((PASS, PASS), PASS),
        ((), UNKNOWN),
    ],
)
def test_the_worst_wins(verdicts: tuple[Verdict, ...], wins: Verdict) -> None:
    assert worst(verdicts) is wins
