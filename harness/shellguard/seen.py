"""What a look at one call yields: findings, and whatever it carries that must be read in turn. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.shellguard.reading import Call, Shell
from harness.shellguard.rules import Rule


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call would run: ``remote`` on the rented box, ``background`` with nobody waiting for it.

    ``prose`` marks text handed to a program that the guard does not know to run its arguments.
    ``line`` is the whole line as given, for the question whether it names a guarded act at all.
    """

    line: str
    remote: bool = False
    background: bool = False
    prose: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that a call breaks, and the words that break it (untrusted text)."""

    rule: Rule
    words: str


@dataclass(frozen=True, slots=True)
class Script:
    """Text that a call would hand to a shell."""

    text: str
    shell: Shell = Shell.BASH
    remote: bool = False
    background: bool = False
    prose: bool = False


@dataclass(frozen=True, slots=True)
class Inner:
    """A call that a call would start."""

    words: tuple[str, ...]
    background: bool = False


Seen = Finding | Script | Inner
Look = Callable[[Call, Place], Iterator[Seen]]
"""Looks at one call whose first word the look is for."""


def said(call: Call) -> str:
    """The words of a call, for a finding."""
    return " ".join(call.words)
