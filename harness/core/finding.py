"""Finding about a file: one claim with its verdict, what was seen, what was expected and what to do. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Finding:
    """One claim about a file or a folder. ``remedy`` is empty when it passed."""

    id: str
    claim: str
    verdict: Verdict
    seen: str
    expected: str
    remedy: str = ""

    @classmethod
    def of(cls, name: str, claim: str, holds: bool | None, seen: str, expected: str, *, remedy: str) -> Finding:
        """Finding of a claim that holds, does not, or (None) could not be judged."""
        verdict = {True: Verdict.PASS, False: Verdict.FAIL, None: Verdict.UNKNOWN}[holds]
        return cls(name, claim, verdict, seen, expected, "" if holds else remedy)
