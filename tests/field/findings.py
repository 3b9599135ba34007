"""What a judge found, as a table's test asks for it."""

from __future__ import annotations

from harness.core.finding import Finding
from harness.core.verdict import Verdict

PASS, UNKNOWN, FAIL = Verdict.PASS, Verdict.UNKNOWN, Verdict.FAIL


def by_id(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    """Findings by their name; each name once."""
    found = {finding.id: finding for finding in findings}
    assert len(found) == len(findings)
    return found


def verdicts(findings: tuple[Finding, ...]) -> dict[str, Verdict]:
    """The verdicts that are no pass."""
    assert all(finding.remedy for finding in findings if finding.verdict is not PASS)
    return {name: finding.verdict for name, finding in by_id(findings).items() if finding.verdict is not PASS}
