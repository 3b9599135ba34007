"""Reads the arguments of the ``vastai`` command as the real one does: the same argparse, the same grammar. Pure.

The tables restate the commands of vastai 1.9.1 (https://pypi.org/project/vastai/1.9.1/, ``vastai/cli``);
a test compares them with the package that is installed. Its parser joins a verb and the
word after it into one command name, wherever on the line they stand, and lets argparse do the rest:
options anywhere, unambiguous prefixes of long options, ``--``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import NoReturn

from harness.shellguard.reading import HOLE

NAMES = frozenset({"vastai", "vast", "vast.py"})
"""Names of the command: the package's, the old single file's, and the short form that people alias."""

GLOBAL_VALUES = ("--url", "--retry", "--api-key")
GLOBAL_FLAGS = ("--explain", "--raw", "--full", "--curl", "--no-color")

_SCHEDULE = ("--schedule", "--start_date", "--end_date", "--day", "--hour")

GUARDED: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    # command: (positionals, options with a value and their short forms, spellings of its one flag)
    "destroy instance": ("id", (), ("-y", "--yes")),
    "destroy instances": ("ids+", (), ("-y", "--yes")),
    "recycle instance": ("id", (), ()),
    "update instance": ("id", ("--template_id", "--template_hash_id", "--image", "--args", "--env", "--onstart"), ()),
    "stop instance": ("id", (), ()),
    "stop instances": ("ids+", (), ()),
    "reboot instance": ("id", _SCHEDULE, ()),
    "execute": ("id COMMAND", _SCHEDULE, ()),
    "change bid": ("id", ("--price", *_SCHEDULE), ()),
    "delete volume": ("id", (), ()),
    "delete api-key": ("id", (), ()),
    "reset api-key": ("", (), ()),
    "destroy team": ("", (), ()),
    "delete ssh-key": ("id", (), ()),
    "detach ssh": ("instance_id ssh_key_id", (), ()),
    "copy": ("src dst", ("-i --identity",), ()),
    "repl": ("", (), ()),
}
"""The commands whose arguments the judge looks at."""

OTHERS: dict[str, tuple[str, ...]] = {
    "": ("help", "dump-logs", "logs", "reports", "ssh-url", "scp-url", "update", "uninstall"),
    "accept": ("price-increase",),
    "add": ("network-disk",),
    "attach": ("ssh",),
    "cancel": ("copy", "sync", "maint"),
    "cleanup": ("machine",),
    "clone": ("volume",),
    "cloud": ("copy",),
    "create": (
        "instance", "instances", "template", "team", "team-role", "api-key", "ssh-key", "endpoint", "workergroup",
        "subaccount", "volume", "network-volume", "env-var",
    ),
    "defrag": ("machines",),
    "delete": (
        "template", "machine", "endpoint", "workergroup", "scheduled-job", "env-var", "deployment",
    ),
    "get": ("endpt-logs", "endpt-workers", "wrkgrp-logs"),
    "invite": ("member",),
    "label": ("instance",),
    "launch": ("instance",),
    "list": ("machine", "machines", "network-volume", "volume", "volumes"),
    "metrics": ("gpu", "gpu-locations", "gpu-trends"),
    "prepay": ("instance",),
    "reject": ("price-increase",),
    "remove": ("defjob", "member", "team-role"),
    "run": ("benchmarks",),
    "schedule": ("maint",),
    "search": ("offers", "instances", "benchmarks", "templates", "invoices", "volumes", "network-volumes"),
    "self-test": ("machine",),
    "set": ("api-key", "defjob", "min-bid", "role", "user"),
    "show": (
        "api-key", "api-keys", "audit-logs", "connections", "deployment", "deployment-versions", "deployments",
        "deposit", "earnings", "endpoints", "env-vars", "gpu-locations", "gpu-metrics", "gpu-trends", "instance",
        "instance-backup-files", "instance-backups", "instances", "instances-v1", "invoices", "invoices-v1", "ipaddrs",
        "machine", "machines", "maints", "members", "network-disks", "pending-price-increases", "scheduled-jobs",
        "ssh-keys", "subaccounts", "team-role", "team-roles", "user", "volumes", "workergroups",
    ),
    "start": ("instance", "instances", "deployment"),
    "stop": ("deployment",),
    "take": ("snapshot",),
    "tfa": (
        "activate", "auth-new", "delete", "login", "regen-codes", "resend-sms", "send-email", "send-sms", "status",
        "totp-setup", "update",
    ),
    "transfer": ("credit",),
    "unlist": ("machine", "network-volume", "volume"),
    "update": ("endpoint", "env-var", "ssh-key", "team-role", "template", "workergroup", "workers"),
}  # fmt: skip
"""Every other command by its verb ("" for the single words): known, so that a new one is noticed."""

COMMANDS = frozenset(GUARDED) | {f"{verb} {name}".strip() for verb, names in OTHERS.items() for name in names}
VERBS = frozenset(command.split()[0] for command in COMMANDS if " " in command)


@dataclass(frozen=True, slots=True)
class VastaiCommand:
    """Command that a ``vastai`` line gives to the provider.

    ``command`` is None when it only prints (help, version, nothing given). ``rejected`` says why the real
    parser would refuse the line; ``hidden`` that the command itself stands in a hole. ``values`` and
    ``flags`` are what was given to a guarded command, by option name or positional name.
    """

    command: str | None
    values: Mapping[str, str] = field(default_factory=dict)
    flags: frozenset[str] = frozenset()
    rejected: str | None = None
    hidden: bool = False


class _Printed(Exception):
    """Help or the version would be printed, and nothing else done."""


class _Rejected(Exception):
    """The real parser would refuse the line."""


class _Parser(argparse.ArgumentParser):
    """argparse, told to raise where it would print and exit."""

    def error(self, message: str) -> NoReturn:
        raise _Rejected(message)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        del status, message
        raise _Printed

    def print_help(self, file: object = None) -> None:
        del file


def _add_globals(parser: argparse.ArgumentParser, default: str | None) -> None:
    for name in GLOBAL_VALUES:
        parser.add_argument(name, default=default)
    for name in GLOBAL_FLAGS:
        parser.add_argument(name, action="store_true", default=default or False)


@cache
def _parser() -> _Parser:
    root = _Parser(prog="vastai")
    commands = root.add_subparsers(dest="command", parser_class=_Parser)
    for name in sorted(COMMANDS):
        sub = commands.add_parser(name)
        if name not in GUARDED:
            sub.add_argument("rest", nargs=argparse.REMAINDER)
            continue
        _add_globals(sub, argparse.SUPPRESS)
        positionals, values, flags = GUARDED[name]
        for positional in positionals.split():
            sub.add_argument(positional.rstrip("+"), nargs="+" if positional.endswith("+") else None)
        for value in values:
            sub.add_argument(*value.split())
        if flags:
            sub.add_argument(*flags, action="store_true")
    _add_globals(root, None)
    root.add_argument("--version", action="version", version="")
    return root


def joined(args: tuple[str, ...]) -> tuple[str, ...]:
    """The arguments with each verb and the word behind it made one, as the real parser makes them."""
    out: list[str] = []
    for word in args:
        if out and out[-1] in VERBS and not word.startswith("-"):
            out[-1] += " " + word
        else:
            out.append(word)
    return tuple(out)


def parse(args: tuple[str, ...]) -> VastaiCommand:
    """Command that the arguments behind ``vastai`` give. Never raises: a refusal is ``VastaiCommand.rejected``."""
    words = joined(args)
    try:
        known, extra = _parser().parse_known_args(words)
    except _Printed:
        return VastaiCommand(None)
    except _Rejected as error:
        return VastaiCommand(None, rejected=str(error), hidden=any(HOLE in word for word in words))
    found = vars(known)
    command = found.pop("command", None)
    rest = [*(found.pop("rest", None) or []), *extra]
    if extra and command in GUARDED:
        return VastaiCommand(None, rejected=f"unrecognized arguments: {' '.join(extra)}", hidden=HOLE in "".join(words))
    flags = {name for name, value in found.items() if value is True}
    # The parser of a command that is not guarded is not restated; its two telling flags are.
    flags.update(name for name in ("explain", "curl") if any(_abbreviates(word, f"--{name}") for word in rest))
    values = {
        name: " ".join(value) if isinstance(value, list) else value
        for name, value in found.items()
        if isinstance(value, (str, list))
    }
    return VastaiCommand(command, values, frozenset(flags))


def _abbreviates(word: str, option: str) -> bool:
    return len(word) > 3 and option.startswith(word)


def named(args: tuple[str, ...]) -> tuple[str, ...]:
    """Guarded commands that could be meant by arguments that do not parse: by name, or by a verb and a hole."""
    words = joined(args)
    exact = [word for word in words if word in GUARDED and " " in word]
    loose = [f"{a} {b}" for a, b in pairwise(args) if f"{a} {b}" in GUARDED]
    spread = [command for command in GUARDED if " " in command and set(command.split()) <= set(args)]
    holes = [
        command
        for command in GUARDED
        for word in words
        if HOLE in word and " " in word and command.startswith(word.split()[0] + " ")
    ]
    return tuple(dict.fromkeys((*exact, *loose, *spread, *holes)))
