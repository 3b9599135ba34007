"""Says in words why a line is held and what to do instead, safe to print: the line is untrusted text. Pure."""

from __future__ import annotations

from collections.abc import Callable

from harness.core.errors import Refused
from harness.core.text import one_line
from harness.shellguard.judge import Judgement
from harness.shellguard.reading import HOLE
from harness.shellguard.rules import Decision
from harness.shellguard.seen import Violation

_SHOWN = 160

Instead = Callable[[Violation], str]
"""Tells the way that is open in place of what a violation is held for."""


def by_rule(violation: Violation) -> str:
    """The way that is open by the rule alone."""
    return violation.rule.instead


def shown(words: str) -> str:
    """Untrusted text on one line, safe for a terminal, cut at 160 characters."""
    return one_line(words.replace(HOLE, "…"), _SHOWN)


def reason(violation: Violation) -> str:
    """One violation: the rule, its reason, and the words that break it."""
    return f"{violation.rule.what}: {violation.rule.why}. Seen: {shown(violation.words)}"


def explanation(judgement: Judgement, instead: Instead) -> str:
    """Every rule that the line breaks, once each, with its reason and the way that is open."""
    return "\n".join(
        f"[{violation.rule.id}] {reason(violation)}. Instead: {instead(violation)}."
        for violation in _one_a_rule(judgement)
    )


def warning(judgement: Judgement, instead: Instead) -> str | None:
    """Warning about a line that may run, None without one. Raises Refused when it is held."""
    leading = judgement.leading
    if leading is None:
        return None
    if judgement.decision is Decision.DENY:
        told = "\n".join(f"[{violation.rule.id}] {reason(violation)}" for violation in _one_a_rule(judgement))
        raise Refused(told, remedy=instead(leading))
    return explanation(judgement, instead)


def _one_a_rule(judgement: Judgement) -> tuple[Violation, ...]:
    return tuple({violation.rule.id: violation for violation in reversed(judgement.violations)}.values())[::-1]
