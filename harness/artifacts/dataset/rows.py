"""Rows of a data file: strict JSON Lines of the contract's shapes; every line that does not fit is named.

Other fields than those of the shapes are allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final

from harness.artifacts.dataset import contract, lines, shapes
from harness.artifacts.dataset.contract import MAX_LINE_BYTES, MisfitError, Schema, Teaching

_NO_DIGITS: Final = b"0123456789+-"
_BREAK: Final = rb"\n"  # a line break as JSON escapes it
_SENTENCE: Final = re.compile(rb"\. (?=[A-Z])")  # "0.5 over" without its digits is no end of a sentence


@dataclass(frozen=True, slots=True)
class Defect:
    """A line and what is wrong with it; ``line`` counts from one, zero stands for the file as a whole."""

    file: str
    line: int
    rule: str
    detail: str


@dataclass(frozen=True, slots=True)
class Rows:
    """One data file: its rows, the line of each, and the lines that are no rows. All rows are of one shape.

    ``pieces`` are the distinct pieces of its lines once the digits and signs are taken out (UTF-8, JSON's own
    escapes left in): rows that are one template with other numbers have the same ones.
    """

    path: Path
    schema: Schema | None
    rows: list[dict[str, Any]]
    lines: list[int]
    defects: tuple[Defect, ...]
    pieces: frozenset[bytes]

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name


def read(path: Path, teaching: Teaching) -> Rows:
    """Read a whole data file. Raises BadInput when it cannot be read at all; a bad line is a defect."""
    reading = _read(path, teaching, glances=True)
    found = pieces(reading.skeletons | reading.alike)
    if reading.alike and any(mark in piece for piece in found for mark in contract.SUSPECT_BYTES):
        reading = _read(path, teaching, glances=False)
    if not reading.line:
        reading.defect("json", "the file holds no rows")
    schema, rows = next(iter(reading.schemas), None), reading.rows
    if len(reading.schemas) > 1:
        schema, rows = Schema.COMPLETION, [row | contract.as_completion(row) for row in rows]
    return Rows(path, schema, rows, reading.lines, tuple(reading.defects), found)


def _read(path: Path, teaching: Teaching, *, glances: bool) -> _Reading:
    reading = _Reading(path.name, teaching, glances)
    for chunk in lines.chunks(path):
        reading.add(chunk)
    return reading


def skeletons(chunk: Iterable[bytes]) -> set[bytes]:
    """The lines without their digits and signs, together: one by one they take twice as long."""
    return set(b"".join(chunk).translate(None, _NO_DIGITS).split(b"\n")) - {b""}


def pieces(found: Iterable[bytes]) -> frozenset[bytes]:
    """The distinct lines and sentences of text in skeletons."""
    lines_of_text = frozenset(chain.from_iterable(skeleton.split(_BREAK) for skeleton in found))
    return frozenset(chain.from_iterable(map(_SENTENCE.split, lines_of_text)))


@dataclass(slots=True)
class _Reading:
    """A file being read, chunk by chunk, or with ``glances`` off line by line."""

    name: str
    teaching: Teaching
    glances: bool
    rows: list[dict[str, Any]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    schemas: set[Schema] = field(default_factory=set)
    defects: list[Defect] = field(default_factory=list)
    skeletons: set[bytes] = field(default_factory=set)
    alike: set[bytes] = field(default_factory=set)
    """Skeletons of lines that were taken in at a glance, all with the fields ``names``."""
    names: tuple[str, ...] = ()
    thoughts: int = 0
    """The most ``think>`` in one of them."""
    line: int = 0

    def add(self, chunk: list[bytes]) -> None:
        """Take in some lines, at a glance where all are alike and right."""
        found = skeletons(chunk)
        rows = self.at_a_glance(chunk, found - self.alike) if self.glances else []
        if rows:
            self.alike |= found
            self.rows += rows
            self.lines += range(self.line + 1, self.line + 1 + len(rows))
            self.line += len(rows)
        else:
            self.skeletons |= found
            for line in chunk:
                self.look(line)

    def at_a_glance(self, chunk: list[bytes], new: set[bytes]) -> list[dict[str, Any]]:
        """The rows of lines that all have the same fields, nothing but text in them and no mistake; else none.

        ``new`` are those of their skeletons that no line had before.
        """
        try:
            found: list[dict[str, Any]] = list(map(lines.quickly, chunk))
            kinds = set(map(type, chain.from_iterable(map(dict.values, found))))
        except (ValueError, TypeError):
            return []
        names = tuple(found[0])
        alike = kinds == {str} and set(map(tuple, found)) == {names} and self.names in ((), names)
        # No line of a chunk but the last can be so long.
        if not alike or len(chunk[-1]) > MAX_LINE_BYTES:
            return []
        # Two quotes a name and two a text, no line has less; with more of them, a name may stand there twice.
        if any(skeleton.count(b'"') != 4 * len(names) for skeleton in new):
            return []
        self.thoughts = max(self.thoughts, *(skeleton.count(b"think>") for skeleton in new), 0)
        if not contract.all_read(found, names, self.teaching, thoughts=self.thoughts):
            return []
        self.names = names
        self.schemas.add(contract.schema_of(names, self.teaching))
        return found

    def look(self, line: bytes) -> None:
        """Take in one line, as a row or as a defect."""
        self.line += 1
        try:
            row = self.row(line)
        except MisfitError as error:
            self.defect("schema", str(error))
        except ValueError as error:
            self.defect("json", str(error))
        else:
            self.rows.append(row)
            self.lines.append(self.line)
            self.schemas.add(contract.schema_of(row, self.teaching))

    def row(self, line: bytes) -> dict[str, Any]:
        """The row of one line; raises MisfitError, or ValueError where there is no value."""
        if len(line) > MAX_LINE_BYTES:
            raise ValueError(f"longer than {MAX_LINE_BYTES} bytes")
        row = lines.value(line)
        if not isinstance(row, dict):
            raise MisfitError(f"a {type(row).__name__} where an object belongs")
        match self.teaching:
            case Teaching.CONVERSATIONS:
                return shapes.conversation(row)
            case Teaching.TEXTS:
                return shapes.plain(row)
            case _:
                contract.refuse(row, self.teaching)
                return row

    def defect(self, rule: str, detail: str) -> None:
        """Note what is wrong with the line."""
        self.defects.append(Defect(self.name, self.line, rule, detail))
