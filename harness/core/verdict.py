"""PASS < UNKNOWN < FAIL: three verdicts, the worst wins. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Verdict(StrEnum):
    """A check's word on its claim. UNKNOWN means that it could not look; it is not a pass."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    UNKNOWN = "unknown"
    FAIL = "fail"


_SEVERITY = {Verdict.PASS: 0, Verdict.UNKNOWN: 1, Verdict.FAIL: 2}


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of the verdicts; of none at all UNKNOWN, for nothing was looked at."""
    return max(verdicts, key=_SEVERITY.__getitem__, default=Verdict.UNKNOWN)
