"""Text from a stranger: made safe to print and bounded, and judged as the name of a file. Pure."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

RFC3339 = "%Y-%m-%dT%H:%M:%SZ"
"""Format of a moment in UTC, in whole seconds."""
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_KEPT = frozenset("\t\n")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|(?:com|lpt)[0-9¹²³]) *(?:\..*)?", re.IGNORECASE)


def printable(text: str, limit: int = 2000) -> str:
    """The text without terminal escapes, and with a replacement for whatever else is not printable.

    That is what ``str.isprintable`` says: control and direction-changing characters, odd blanks, lone
    surrogates, code points that stand for nothing. Tabs and line feeds stay. Cut at ``limit`` characters.
    """
    bare = _ESCAPES.sub("", text[: limit * 4])
    clean = "".join(c if c.isprintable() or c in _KEPT else "\N{REPLACEMENT CHARACTER}" for c in bare)
    return clean if len(clean) <= limit and len(text) <= limit * 4 else clean[:limit] + "…"


def one_line(text: str, limit: int = 300) -> str:
    """A stranger's words on one line, printable and bounded."""
    return " ".join(printable(text, limit).split())


def did_you_mean(typed: str, known: Iterable[str]) -> str:
    """Question after the known name that a misspelt one is nearest to, a blank behind it; empty when none is near."""
    near = get_close_matches(typed.lower(), list(known), 1)
    return f"Did you mean {near[0]}? " if near else ""


def misfits(error: ValidationError, whole: str = "") -> list[str]:
    """Refusals of pydantic, each as ``place.in.it: reason``, never with the value; ``whole`` is the place of all."""
    refused = error.errors(include_url=False, include_input=False)
    return [f"{'.'.join(map(str, one['loc'])) or whole}: {one['msg']}" for one in refused]


def command_line(words: Sequence[str], *, windows: bool = sys.platform == "win32") -> str:
    """Words as a person types them here: in double quotes on Windows, where ``'`` quotes nothing for cmd.exe."""
    if not windows:
        return shlex.join(words)
    from subprocess import list2cmdline  # noqa: PLC0415 - only where it is needed: every command loads this module

    return list2cmdline(words)


def table_cell(text: str) -> str:
    """A text in a table of Markdown: one line, in which no pipe ends the cell."""
    return " ".join(text.split()).replace("|", "\\|")


def names_device(part: str) -> bool:
    """True for a part of a path that Windows takes for a device, whatever its extension.

    Microsoft: Naming Files, Paths, and Namespaces.
    """
    return _DEVICE.fullmatch(part) is not None


def human_bytes(count: float, step: int = 1000, units: Sequence[str] = ("B", "kB", "MB", "GB", "TB")) -> str:
    """Bytes for people, in powers of ten as disks and seeds count them: ``8.10 GB``; or in other units a step apart."""
    for unit in units[:-1]:
        if abs(count) < step:
            return f"{count:.0f} {unit}" if unit == units[0] else f"{count:.2f} {unit}"
        count /= step
    return f"{count:.2f} {units[-1]}"


def human_seconds(seconds: float) -> str:
    """A duration for people: ``41 s``, ``12 min 05 s``, ``2 h 03 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def rfc3339(moment: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC, whole seconds."""
    return datetime.fromtimestamp(int(moment), UTC).strftime(RFC3339)
