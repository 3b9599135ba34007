"""Rows of a data file: strict JSONL of the contract's schemas; every line that does not fit is named.

Schemas: ``{"prompt", "completion"}``, ``{"messages": [{"role", "content"}, ...]}``,
``{"instruction", "input"?, "output"}``, and for preferences ``{"prompt", "chosen", "rejected"}``.
Other fields are allowed (``pair``, ``date``).
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final

from pydantic_core import from_json

from harness.core.errors import BadInput

MAX_FILE_BYTES: Final = 4 << 30
_NO_DIGITS: Final = b"0123456789+-"
_BREAK: Final = rb"\n"  # a line break as JSON escapes it
_ROLES: Final = frozenset({"system", "user", "assistant", "tool"})


class Schema(StrEnum):
    """The shape of a file's rows, by the fields that each row must have; of two that fit, the first."""

    PREFERENCE = "prompt/chosen/rejected"
    COMPLETION = "prompt/completion"
    MESSAGES = "messages"
    INSTRUCTION = "instruction/output"


_FIELDS: Final = {schema: tuple(schema.split("/")) for schema in Schema}


@dataclass(frozen=True, slots=True)
class Defect:
    """A line and what is wrong with it; ``line`` counts from one, zero stands for the file as a whole."""

    file: str
    line: int
    rule: str
    detail: str

    def __str__(self) -> str:
        """``pairs.jsonl:17: rule: detail``."""
        return f"{self.file}:{self.line}: {self.rule}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Rows:
    """One data file: its rows, the line of each, and the lines that are no rows. All rows are of one schema.

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


def read(path: Path) -> Rows:
    """Read a whole data file. Raises BadInput when it cannot be read at all; a bad line is a defect."""
    reading = _Reading(path.name)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadInput(f"{path} is larger than {MAX_FILE_BYTES} bytes")
        with path.open("rb") as file:
            for line in file:
                reading.add(line.removesuffix(b"\n"))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error
    if not reading.rows and not reading.defects:
        reading.defect("json", "the file holds no rows")
    lines_of_text = frozenset(chain.from_iterable(skeleton.split(_BREAK) for skeleton in reading.skeletons))
    pieces = frozenset(chain.from_iterable(text.split(b". ") for text in lines_of_text))
    return Rows(path, reading.schema, reading.rows, reading.lines, tuple(reading.defects), pieces)


# Three times as fast as the json module, and strict: UTF-8, no NaN, nothing behind the value.
_parse: Final = partial(from_json, allow_inf_nan=False, cache_strings="keys")


@dataclass(slots=True)
class _Reading:
    """A file being read, line by line. A skeleton is a line without its digits and signs."""

    name: str
    schema: Schema | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)
    skeletons: set[bytes] = field(default_factory=set)
    line: int = 0
    like: tuple[str, ...] = ()
    """The fields of a row that fits and holds nothing but text: most rows have the same, and fit at a glance."""

    def add(self, line: bytes) -> None:
        """Take in one line, as a row or as a defect."""
        self.line += 1
        self.skeletons.add(line.translate(None, _NO_DIGITS))
        try:
            row = _parse(line)
        except ValueError as error:
            self.defect("json", _why_no_json(line) or str(error))
            return
        problem = None if self.is_alike(row) else self.problem(row)
        if problem is None:
            self.rows.append(row)
            self.lines.append(self.line)
        else:
            self.defect("schema", problem)

    def is_alike(self, row: Any) -> bool:
        """True when a JSON value has the fields of the last row that fitted, and nothing but text in them."""
        return type(row) is dict and tuple(row) == self.like and set(map(type, row.values())) == {str}

    def problem(self, row: Any) -> str | None:
        """Reason why a JSON value is no row of this file, None when it is one; the first row decides on the schema."""
        schema = _schema(row)
        if schema is None:
            return f"not one of {', '.join(Schema)}"
        if self.schema not in (None, schema):
            return f"a row of {schema} among rows of {self.schema}"
        problem = _misfit(row, schema)
        if problem is None:
            self.schema = schema
            if set(map(type, row.values())) == {str}:
                self.like = tuple(row)
        return problem

    def defect(self, rule: str, detail: str) -> None:
        """Note what is wrong with the line."""
        self.defects.append(Defect(self.name, self.line, rule, detail))


def _why_no_json(line: bytes) -> str:
    """Reason that the parser's own message does not tell; empty when it does."""
    if not line.strip():
        return "an empty line"
    if line.startswith(codecs.BOM_UTF8):
        return "it begins with a byte order mark: save the file as UTF-8 without one"
    if b"\0" in line:
        return "it holds zero bytes, as UTF-16 does: save the file as UTF-8"
    return ""


def _schema(row: object) -> Schema | None:
    if not isinstance(row, dict):
        return None
    return next((schema for schema, fields in _FIELDS.items() if all(name in row for name in fields)), None)


def _misfit(row: dict[str, Any], schema: Schema) -> str | None:
    if schema is Schema.MESSAGES:
        return _bad_messages(row["messages"])
    for name in _FIELDS[schema]:
        if not isinstance(row[name], str):
            return f"{name} is not text"
    if schema is Schema.INSTRUCTION and not isinstance(row.get("input", ""), str):
        return "input is not text"
    return None


def _bad_messages(messages: object) -> str | None:
    if not isinstance(messages, list) or not messages:
        return "messages is not a list of turns"
    for turn in messages:
        if (
            not isinstance(turn, dict)
            or str(turn.get("role")) not in _ROLES
            or not isinstance(turn.get("content"), str)
        ):
            return "a turn is not {role, content}"
    if messages[-1]["role"] != "assistant":
        return "the last turn is not the assistant's"
    return None
