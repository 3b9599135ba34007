"""File names from a stranger's machine: refused when they are unsafe, with the reason. Pure."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath, PureWindowsPath
from typing import TypeVar

from harness.core.errors import TransferFailed
from harness.core.questions import Question
from harness.core.text import names_device

T = TypeVar("T")


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


def unsafe_paths(question: Question[T], answer: T) -> list[str]:
    """The paths of an answer that are not what the question can have asked for."""
    within = question.within
    return [path for path in question.paths(answer) if not _plausible(path, within)]


def _plausible(path: str, within: str) -> bool:
    parts = path.split("/")
    if problem_of_remote(path) is not None or ".." in parts or any(part.startswith("-") for part in parts):
        return False
    return path.startswith(within.rstrip("/") + "/") if within else not path.startswith("/")
