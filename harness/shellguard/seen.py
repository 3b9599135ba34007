"""Values that a look at one call yields: violations, and whatever it carries that must be read in turn. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from harness.shellguard.reading import ProgramCall, Shell
from harness.shellguard.rules import Rule


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call would run: ``remote`` on the rented box, ``background`` with nobody waiting for it.

    ``prose`` marks text handed to a program that the command guard does not know to run its arguments.
    ``line`` is the whole line as given, for the question whether it names a guarded act at all. ``written``:
    the files that the line itself has written, each with the text that it put there.
    """

    line: str
    remote: bool = False
    background: bool = False
    prose: bool = False
    written: tuple[tuple[str, str], ...] = ()
    judged: set[object] = field(default_factory=set, compare=False)
    """Calls of this line that were looked at; each is looked at once."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that a call breaks, and the words that break it (untrusted text)."""

    rule: Rule
    words: str


@dataclass(frozen=True, slots=True)
class NestedScript:
    """Text that a call would hand to a shell."""

    text: str
    shell: Shell = Shell.BASH
    remote: bool = False
    background: bool = False
    prose: bool = False


@dataclass(frozen=True, slots=True)
class NestedCall:
    """A call that a call would start."""

    words: tuple[str, ...]
    background: bool = False
    remote: bool = False
    stdin: str | None = None


Seen = Violation | NestedScript | NestedCall
Look = Callable[[ProgramCall, Place], Iterator[Seen]]
"""Looks at one call whose first word the look is for."""


def said(call: ProgramCall) -> str:
    """The words of a call, for a violation."""
    return " ".join(call.words)
