"""Values that a line is read into: the calls that a shell would make, and the doubts that were left. Pure.

A reader (``bash``, ``powershell``, ``cmdexe``) turns a line into a ``ParsedLine``; the judge
looks at nothing else. What only the running shell could know (a variable, the output
of a command) stands in a word as one ``HOLE``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

HOLE = "\0"
"""Stands for text that is known only when the line runs; no argument of a process can contain it."""

MAX_TEXT = 1 << 17
"""Characters of a line that are read: the size of one argument on Linux (MAX_ARG_STRLEN, execve(2))."""

MAX_DEPTH = 40
"""How deep commands may be nested in one another before the rest is a doubt."""


class Shell(StrEnum):
    """A command language that a line can be written in."""

    BASH = "bash"
    POWERSHELL = "powershell"
    CMD = "cmd"


@dataclass(frozen=True, slots=True)
class ProgramCall:
    """One program with its arguments, as the shell would start it.

    ``env`` holds ``NAME=value`` assignments for this call alone. ``stdin`` is literal text that it
    would read; ``piped`` says that it reads from another program. ``background`` says that
    the shell would not wait for it, and nothing later in the line waits either. ``files`` are the names that it
    is redirected to or from.
    """

    words: tuple[str, ...]
    env: tuple[str, ...] = ()
    stdin: str | None = None
    piped: bool = False
    background: bool = False
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ParsedLine:
    """All calls of a line in their order, and why the line could not be read to its end, if it could not."""

    calls: tuple[ProgramCall, ...]
    doubts: tuple[str, ...] = ()


def names(text: str) -> frozenset[str]:
    """The words of a list."""
    return frozenset(text.split())


def program(word: str) -> str:
    """The bare name of a program: no directory of either style, no Windows extension, no version, lower case."""
    name = word.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1].lower()
    for extension in (".exe", ".cmd", ".bat", ".com", ".ps1"):
        name = name.removesuffix(extension)
    # ``uvx vastai@1.9.1`` and ``pipx run vastai==1.9.1`` name a version of the program.
    return name.split("@", 1)[0].split("==", 1)[0]


PRINTERS = names(
    "echo printf write-output write write-host write-warning write-verbose write-error write-debug write-information"
    " read-host"
)
"""Programs that only print their arguments."""
_WAITERS = frozenset({"wait", "wait-job", "wait-process", "fg"})


def awaited(calls: tuple[ProgramCall, ...]) -> tuple[ProgramCall, ...]:
    """The same calls, those that a later ``wait`` of the same line waits for no longer in the background."""
    last = max((i for i, call in enumerate(calls) if call.words and program(call.words[0]) in _WAITERS), default=-1)
    return tuple(replace(call, background=call.background and i >= last) for i, call in enumerate(calls))


def printed(call: ProgramCall) -> str | None:
    """Output of a call, where the line alone tells it."""
    name = program(call.words[0]) if call.words else ""
    if name in PRINTERS:
        text = " ".join(call.words[1:])
        escaped = name == "printf" or (name == "echo" and call.words[1:2] == ("-e",))
        return text.removeprefix("-e ").replace("\\n", "\n").replace("\\t", "\t") if escaped else text
    return call.stdin if name == "cat" else None
