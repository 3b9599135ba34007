"""Reads what a coding agent asks before it runs a command. Pure, and quick to load: it runs before every command.

The protocol is that of Claude Code's PreToolUse hooks (https://code.claude.com/docs/en/hooks): one JSON object with
``tool_name`` and ``tool_input``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from harness.shellguard.reading import Shell
from harness.shellguard.topics import touches

MAX_INPUT = 8 << 20
"""Bytes of a request that are read; agents send the command, not files."""

_SHELLS = {"bash": Shell.BASH, "powershell": Shell.POWERSHELL, "pwsh": Shell.POWERSHELL, "cmd": Shell.CMD}


@dataclass(frozen=True, slots=True)
class AgentCommand:
    """The command of a request, its language, and whether the agent would wait for it."""

    command: str
    shell: Shell
    background: bool


class Unreadable(Exception):
    """The request cannot be read; the message says why."""


def read(request: bytes) -> AgentCommand | None:
    """The command that a request asks about; None for a tool that runs none. Raises Unreadable."""
    if len(request) > MAX_INPUT:
        raise Unreadable(f"the request is longer than {MAX_INPUT} bytes")
    try:
        asked = json.loads(request.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"the request is not JSON: {error}") from error
    if not isinstance(asked, dict) or not isinstance(asked.get("tool_name"), str):
        raise Unreadable("the request names no tool")
    shell = _SHELLS.get(asked["tool_name"].lower())
    if shell is None:
        return None
    given = asked.get("tool_input")
    if not isinstance(given, dict) or not isinstance(given.get("command"), str):
        raise Unreadable(f"the request for the tool {asked['tool_name'][:40]!r} carries no command")
    return AgentCommand(given["command"], shell, given.get("run_in_background") is True)


def concerns(request: bytes) -> bool:
    """True for a request that must be judged: a cheap look that loads no grammar."""
    try:
        asked = read(request)
    except Unreadable:
        return True
    return asked is not None and touches(asked.command)
