"""Looks at calls of the provider: its command line, its SDK in a Python one-liner, its HTTP API. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile

from harness.shellguard import box, rules, vastcli
from harness.shellguard.reading import HOLE, ProgramCall
from harness.shellguard.rules import Rule
from harness.shellguard.seen import NestedCall, NestedScript, Place, Seen, Violation, said

RULE_OF: dict[str, Rule] = {
    "destroy instance": rules.DESTROY,
    "destroy instances": rules.DESTROY,
    "recycle instance": rules.RECYCLE,
    "update instance": rules.UPDATE,
    "update template": rules.TEMPLATE,
    "stop instance": rules.STOP,
    "stop instances": rules.STOP,
    "reboot instance": rules.REBOOT,
    "change bid": rules.BID,
    "delete volume": rules.VOLUME,
    "delete api-key": rules.API_KEY,
    "reset api-key": rules.API_KEY,
    "destroy team": rules.API_KEY,
    "delete ssh-key": rules.LOCK_OUT,
    "detach ssh": rules.LOCK_OUT,
    "copy": rules.COPY,
    "cloud copy": rules.COPY,
    "cancel copy": rules.COPY,
    "transfer credit": rules.CREDIT,
    "repl": rules.HIDDEN,
}
"""Rule that a command breaks; the SDK's methods (vastai 1.9.1, ``vastai.VastAI``) are named like the commands."""

_MENTIONED = ("--label", "--name", "--desc", "--readme", "--href", "--repo")
"""Options whose value is a text for people."""


def vastai(call: ProgramCall, _place: Place) -> Iterator[Seen]:
    """``vastai ...``: judged by the command that its own parser would choose."""
    args = call.words[1:]
    asked = vastcli.parse(args)
    if asked.rejected is not None:
        yield from _rejected(call, asked.hidden)
        return
    if asked.command is None:
        return
    if asked.flags & {"explain", "curl"}:
        yield Violation(rules.PRINTS_KEY, said(call))
    if "schedule" in asked.values:
        yield Violation(rules.SCHEDULE, said(call))
    if asked.command == "execute":
        yield from _execute(call, asked.values.get("COMMAND", ""))
    elif (rule := RULE_OF.get(asked.command)) is not None:
        yield Violation(rule, said(call))
    yield from _carried(call.words[1:])


def _carried(args: tuple[str, ...]) -> Iterator[Seen]:
    """Lines for the box in the options of a command: ``--onstart-cmd``, ``--args``, whatever else is no mere text."""
    for i, word in enumerate(args):
        option, _, glued = word.partition("=")
        if not option.startswith("--"):
            continue
        if option == "--args":
            yield NestedCall((glued, *args[i + 1 :]) if glued else args[i + 1 :], remote=True)
            return
        value = glued or "".join(args[i + 1 : i + 2])
        if option not in _MENTIONED and any(map(str.isspace, value)):
            yield NestedScript(value, remote=True)


def _rejected(call: ProgramCall, hidden: bool) -> Iterator[Seen]:
    """A line that the real parser would refuse, or whose command stands in a hole: held if it may do damage."""
    meant = [RULE_OF[name] for name in vastcli.named(call.words[1:]) if name in RULE_OF]
    if meant:
        yield Violation(max(meant, key=lambda rule: rule.decision is rules.Decision.DENY), said(call))
        return
    first = next((word for word in call.words[1:] if not word.startswith("-")), HOLE)
    if hidden and (HOLE in first or first not in vastcli.VERBS):
        yield Violation(rules.HIDDEN, said(call))


def _execute(call: ProgramCall, command: str) -> Iterator[Seen]:
    try:
        words = shlex.split(command)
    except ValueError:
        words = [HOLE]
    # The provider runs ls, rm and du only (https://docs.vast.ai/cli/commands, ``execute``).
    if words and words[0] in {"ls", "du"} and not re.search(r"[;&|`$\n]", command):
        return
    if "rm" in words or HOLE in command:
        yield Violation(rules.REMOVE, said(call))
        return
    yield NestedScript(command, remote=True)


def harness(call: ProgramCall, place: Place) -> Iterator[Seen]:
    """``harness ...``: its guard needs no help, but for an accepted loss and the wall, which are a person's word."""
    if any(word.partition("=")[0] == "--accept-loss" for word in call.words[1:]):
        yield Violation(rules.ACCEPT_LOSS, said(call))
    if call.words[1:2] == ("ssh",):  # harness ssh JOB -- COMMAND
        words = [word for word in call.words[1:] if word not in {"--", "--print"}]
        yield from box.ssh(replace(call, words=(*words,)), place)
    at = call.words.index("guard") + 1 if "guard" in call.words[1:] else len(call.words)
    behind = tuple(takewhile("--".__ne__, call.words[at:]))
    if {"unlock", "--help"} & set(behind) == {"unlock"} and "judge" not in behind[: behind.index("unlock")]:
        yield Violation(rules.UNLOCK, said(call))
    if any(HOLE in word for word in behind[:1]):
        yield Violation(rules.UNLOCK, said(call))
