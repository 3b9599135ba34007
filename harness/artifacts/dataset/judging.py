"""Verification of any data file without a job: its lines parse, its rows have a shape, and they are fit to train on.

Shapes and rules that are not known here are said to be unknown: a row that another trainer reads is not damaged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from harness.artifacts.dataset import lines, shapes, sound
from harness.artifacts.dataset.contract import MisfitError, Schema
from harness.artifacts.dataset.rows import Defect, Rows, pieces, skeletons
from harness.artifacts.dataset.texts import turns
from harness.core.finding import Finding
from harness.core.text import printable

_MEND: Final = "Mend these lines in the file, or what writes it."
_NAMED: Final = 5
_LIMITS: Final = sound.DatasetLimits(ignore=frozenset({"class_collapse"}))  # what is one-sided by nature is no defect
_SPEAK: Final = frozenset({"user", "human", "assistant"})
_ASKED: Final = frozenset({"system", "prompt", "instruction", "input"})


def judge(path: Path) -> tuple[Finding, ...]:
    """Judge a JSON Lines file of training rows. Raises BadInput when it is not there or cannot be read."""
    reading = _Reading(path)
    for chunk in lines.chunks(path):
        reading.add(chunk)
    return tuple(_findings(reading))


@dataclass(slots=True)
class _Reading:
    """A file being read: its rows by shape, the fields of rows whose shape is unknown, and lines that do not fit."""

    path: Path
    rows: dict[Schema, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    lines: dict[Schema, list[int]] = field(default_factory=lambda: defaultdict(list))
    unknown: dict[tuple[str, ...], int] = field(default_factory=lambda: defaultdict(int))
    defects: list[Defect] = field(default_factory=list)
    empty: list[Defect] = field(default_factory=list)
    skeletons: set[bytes] = field(default_factory=set)
    line: int = 0
    blank: int = 0

    def add(self, chunk: list[bytes]) -> None:
        """Take in some lines."""
        self.skeletons |= skeletons(chunk)
        for line in chunk:
            self.line += 1
            if not line.strip():
                self.blank += 1  # most readers pass over them
                continue
            try:
                self.take(lines.value(line))
            except MisfitError as error:
                self.defects.append(Defect(self.path.name, self.line, "schema", str(error)))
            except ValueError as error:
                self.defects.append(Defect(self.path.name, self.line, "json", str(error)))

    def take(self, value: Any) -> None:
        """Take in one line's value; raises MisfitError."""
        known = shapes.contracted(value)
        if known is None:
            self.unknown[tuple(value)] += 1
            return
        schema, row = known
        self.rows[schema].append(row)
        self.lines[schema].append(self.line)
        for place, text in _spoken(row):
            if not text.strip():
                self.empty.append(Defect(self.path.name, self.line, "empty_turn", f"{place} is empty"))

    def judged(self) -> tuple[sound.Flaw, ...]:
        """Rules that the rows break."""
        found = pieces(self.skeletons)
        sources = [Rows(self.path, schema, rows, self.lines[schema], (), found) for schema, rows in self.rows.items()]
        known = sum(map(len, self.rows.values()))
        return sound.flaws(self.empty, {self.path.name: known}) + sound.judge(sources, limits=_LIMITS)


def _spoken(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The texts of a row that must say something: an answer, a user's turn; tools and systems need not."""
    quiet = {
        f"messages[{number}]" for number, turn in enumerate(row.get("messages") or ()) if turn["role"] not in _SPEAK
    }
    return ((place, text) for place, part, text in turns(row) if place not in (quiet | _ASKED))


def _findings(reading: _Reading) -> Iterator[Finding]:
    total, known = reading.line - reading.blank, sum(map(len, reading.rows.values()))
    broken = [defect for defect in reading.defects if defect.rule == "json"]
    misfit = [defect for defect in reading.defects if defect.rule == "schema"]
    yield Finding.of(
        "lines_parse",
        "every line is a JSON object in UTF-8",
        not broken and total > 0,
        _told(broken, total)
        or (f"{total} lines" + (f", {reading.blank} empty ones passed over" * (reading.blank > 0))),
        "at least one line, none broken",
        remedy=_MEND,
    )
    if total == len(broken):
        return
    counts = ", ".join(f"{len(rows)} of {schema}" for schema, rows in sorted(reading.rows.items()))
    strange = ", ".join(
        f"{count} with {'/'.join(names)[:80] or 'no field'}" for names, count in reading.unknown.items()
    )
    yield Finding.of(
        "rows_have_a_shape",
        "every row is of a shape that is known here",
        False if misfit else None if reading.unknown else True,
        printable(_told(misfit, total) or "; ".join(filter(None, (counts, strange and f"unknown: {strange}"))), 500),
        "chats, instructions, prompts with completions, preference pairs or plain text",
        remedy=_MEND
        if misfit
        else "Rows of other shapes were not looked at: rename their fields, or judge them yourself.",
    )
    if not known:
        return
    flaws = reading.judged()
    yield _soundness([flaw for flaw in flaws if flaw.beyond], known)
    within = [flaw for flaw in flaws if not flaw.beyond]
    seen = printable("; ".join(map(str, within)), 1000) or "no row holds any"
    yield Finding.of(
        "suspect_words", "words that look like a defect stand in few rows", True, seen, "at most 1% of them", remedy=""
    )


def _soundness(flaws: Sequence[sound.Flaw], known: int) -> Finding:
    seen = printable("; ".join(map(str, flaws)), 2000) or f"{known} rows"
    return Finding.of("rows_sound", "the rows are fit to train on", not flaws, seen, "no rule broken", remedy=_MEND)


def _told(defects: Sequence[Defect], total: int) -> str:
    if not defects:
        return ""
    flaws = sound.flaws(defects, {defects[0].file: total})
    more = f"; and {len(flaws) - _NAMED} more reasons" if len(flaws) > _NAMED else ""
    return printable("; ".join(map(str, flaws[:_NAMED])) + more, 1000)
