"""Answers a coding agent that asks, before each command, whether it may run it.

The protocol is that of Claude Code's PreToolUse hooks (https://code.claude.com/docs/en/hooks): one JSON object on
standard input; the answer is a JSON object on standard output with exit code 0, or exit code 2
with the reason on standard error, which blocks. Any other exit code lets the command run: so
whatever goes wrong in here must end in 2. A harmless command gets no answer, and the agent's
own permission rules go on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from harness.shellguard.explain import explanation
from harness.shellguard.judge import judge
from harness.shellguard.reading import Shell
from harness.shellguard.rules import Decision

MAX_INPUT = 8 << 20
"""Bytes of a request that are read; agents send the command, not files."""

_SHELLS = {"bash": Shell.BASH, "powershell": Shell.POWERSHELL, "pwsh": Shell.POWERSHELL, "cmd": Shell.CMD}


@dataclass(frozen=True, slots=True)
class Reply:
    """What the hook process prints and how it ends."""

    exit_code: int
    stdout: str = ""
    stderr: str = ""


def answer(request: bytes) -> Reply:
    """The reply to one request; anything but a well-formed one is blocked with the reason why."""
    if len(request) > MAX_INPUT:
        return _blocked(f"the request is longer than {MAX_INPUT} bytes")
    try:
        asked = json.loads(request.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        return _blocked(f"the request is not JSON: {error}")
    if not isinstance(asked, dict) or not isinstance(asked.get("tool_name"), str):
        return _blocked("the request names no tool")
    shell = _SHELLS.get(asked["tool_name"].lower())
    if shell is None:
        return Reply(0)
    given = asked.get("tool_input")
    if not isinstance(given, dict) or not isinstance(given.get("command"), str):
        return _blocked(f"the request for the tool {asked['tool_name'][:40]!r} carries no command")
    return _judged(given["command"], shell, background=given.get("run_in_background") is True)


def _judged(command: str, shell: Shell, *, background: bool) -> Reply:
    judgement = judge(command, shell, background=background)
    if judgement.decision is Decision.ALLOW:
        return Reply(0)
    output = {
        "hookEventName": "PreToolUse",
        "permissionDecision": str(judgement.decision),
        "permissionDecisionReason": explanation(judgement),
    }
    return Reply(0, stdout=json.dumps({"hookSpecificOutput": output}))


def _blocked(problem: str) -> Reply:
    return Reply(2, stderr=f"harness guard: blocked, {problem}; the guard cannot see what would run\n")
