"""Answers a coding agent that asks, before each command, whether it may run it. Pure.

The answer is a JSON object on standard output with exit code 0, or exit code 2 with the reason on
standard error, which blocks. Any other exit code lets the command run: so whatever goes
wrong in here must end in 2. A harmless command gets no answer, and the agent's own permission rules go on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from harness.shellguard.explain import Instead, by_rule, explanation
from harness.shellguard.judge import judge
from harness.shellguard.request import Unreadable, read
from harness.shellguard.rules import Decision


@dataclass(frozen=True, slots=True)
class HookReply:
    """Output and exit code of the hook process."""

    exit_code: int
    stdout: str = ""
    stderr: str = ""


def answer(request: bytes, instead: Instead = by_rule) -> HookReply:
    """The reply to one request; anything but a well-formed one is blocked with the reason why."""
    try:
        asked = read(request)
    except Unreadable as problem:
        return _blocked(str(problem))
    if asked is None:
        return HookReply(0)
    judgement = judge(asked.command, asked.shell, background=asked.background)
    if judgement.decision is Decision.ALLOW:
        return HookReply(0)
    output = {
        "hookEventName": "PreToolUse",
        "permissionDecision": str(judgement.decision),
        "permissionDecisionReason": explanation(judgement, instead),
    }
    return HookReply(0, stdout=json.dumps({"hookSpecificOutput": output}))


def _blocked(problem: str) -> HookReply:
    """The reply that stops the agent when the command guard could not look."""
    return HookReply(2, stderr=f"harness guard: blocked, {problem}; the command guard cannot see what would run\n")
