"""File names from a stranger's machine: refused when they are unsafe, with the reason. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath, PureWindowsPath
from typing import TypeVar

from harness.core.answers import Entry
from harness.core.errors import BadInput, GateUnknown, HarnessError, TransferFailed
from harness.core.observed import CouldNotLook
from harness.core.questions import Question
from harness.core.text import names_device, printable

T = TypeVar("T")

_NAMED = 5
"""Matching files that are named when there are several."""

REMEDY = (
    "Rename the file on the box (mv OLD NEW), and run the same command again. If the box made it up, do not trust it."
)

RENAME = "rename it on the box"
"""Sentence by which every refusal of a name says what to do; ``not_found`` tells by it that a name was refused."""


def problem_of_text(text: str) -> str | None:
    """Reason why a text cannot be part of a file name; None when it can.

    Refused are control characters, lone surrogates, direction overrides and shell expansions. Nothing here ever
    reaches a shell unquoted; a name that tries to be expanded is still not one of ours.
    """
    for character in text:
        if character in "$`" or unicodedata.category(character) in {"Cc", "Cs", "Cf", "Zl", "Zp"}:
            return f"it holds the character U+{ord(character):04X}"
    return None


def problem_of_relative(path: str) -> str | None:
    """Reason why ``path`` cannot be a relative path below a directory on any operating system; None when it can."""
    if not path or len(path) > 1024:
        return "it is empty or too long"
    odd = problem_of_text(path)
    if odd is not None:
        return odd
    if path.startswith(("/", "~")) or "\\" in path or ":" in path or PureWindowsPath(path).is_absolute():
        return "it is not a relative POSIX path"
    return next(filter(None, map(_problem_of_part, path.split("/"))), None)


def _problem_of_part(part: str) -> str | None:
    if part in {"", ".", ".."}:
        return f"it has the part {part!r}"
    if part.startswith("-"):
        return f"{part!r} could be taken for an option"
    if part.endswith((" ", ".")) or names_device(part) or any(mark in part for mark in '<>"|?*'):
        return f"{part!r} is not a file name everywhere"
    return None


def safe_relative(path: str) -> PurePosixPath:
    """``path`` as a relative path that stays below its directory; raises TransferFailed when it could not."""
    problem = problem_of_relative(path)
    if problem is not None:
        raise TransferFailed(
            f"the name {path[:200]!r} is refused: {problem}",
            remedy="Rename the file. If the box made the name up, do not trust it.",
        )
    return PurePosixPath(path)


def problem_of_remote(path: str) -> str | None:
    """Reason why ``path`` cannot name a file on the box, None when it can: it must be one line of plain text."""
    if not path or len(path) > 4096:
        return "it is empty or too long"
    return problem_of_text(path)


def refused(path: str) -> str | None:
    """Refusal of a name that a file cannot be brought home under; None when it can."""
    name = path.rsplit("/", 1)[-1]
    problem = problem_of_relative(name) or problem_of_remote(path)
    return None if problem is None else f"the name {printable(repr(name), 300)} is refused, {problem}: {RENAME}"


def one_file(matches: Iterable[Entry], pattern: str) -> str:
    """Path of the one file that matches. Raises BadInput: none, several (named), or one whose name is refused."""
    found = [one.path for one in matches if one.kind == "file"]
    if len(found) != 1:
        names = ", ".join(printable(path, 300) for path in found[:_NAMED])
        told = f": {names}{' ...' if len(found) > _NAMED else ''}" if found else ""
        remedy = "Name one of them with --remote-path." if found else None
        raise BadInput(f"{len(found)} files match {pattern} on the box, exactly one is needed{told}", remedy=remedy)
    if (odd := refused(found[0])) is not None:
        raise BadInput(odd, remedy=REMEDY)
    return found[0]


def not_found(error: CouldNotLook) -> HarnessError:
    """A look at the box that brought nothing, as an error: a name that was refused is no network that failed."""
    if RENAME in str(error):
        return BadInput(str(error), remedy=REMEDY)
    return GateUnknown(f"the box could not be looked at: {error}")


def unsafe_paths(question: Question[T], answer: T) -> list[str]:
    """The paths of an answer that are not what the question can have asked for."""
    within = question.within
    return [path for path in question.paths(answer) if not _plausible(path, within)]


def _plausible(path: str, within: str) -> bool:
    parts = path.split("/")
    if problem_of_remote(path) is not None or ".." in parts or any(part.startswith("-") for part in parts):
        return False
    return path.startswith(within.rstrip("/") + "/") if within else not path.startswith("/")
