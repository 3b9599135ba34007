"""Says in words why a line is held and what to do instead, safe to print: the line is untrusted text. Pure."""

from __future__ import annotations

from harness.core.text import printable
from harness.shellguard.judge import Judgement
from harness.shellguard.reading import HOLE
from harness.shellguard.seen import Finding

_SHOWN = 160


def shown(words: str) -> str:
    """Untrusted text on one line, safe for a terminal, cut at 160 characters."""
    return " ".join(printable(words.replace(HOLE, "…"), _SHOWN).split())


def reason(finding: Finding) -> str:
    """One finding: the rule, its reason, and the words that break it."""
    return f"{finding.rule.what}: {finding.rule.why}. Seen: {shown(finding.words)}"


def reasons(judgement: Judgement) -> str:
    """Every rule that the line breaks, once each, with its reason."""
    return "\n".join(f"[{finding.rule.id}] {reason(finding)}" for finding in _one_a_rule(judgement))


def explanation(judgement: Judgement) -> str:
    """Every rule that the line breaks, once each, with its reason and the way that is open."""
    return "\n".join(
        f"[{finding.rule.id}] {reason(finding)}. Instead: {finding.rule.instead}." for finding in _one_a_rule(judgement)
    )


def _one_a_rule(judgement: Judgement) -> tuple[Finding, ...]:
    return tuple({finding.rule.id: finding for finding in reversed(judgement.findings)}.values())[::-1]
