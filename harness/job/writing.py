"""A job file as text: answers of a person, each at its place and safe in TOML, with a word on what it means. Pure.

``#:schema`` at the head tells an editor where the file's schema is (taplo.tamasfe.dev, Directives): the file that came
with this harness, so that it works without a network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.core.errors import BadInput
from harness.job import schema

Value = str | int | float | bool | Mapping[str, int]
_WHOLE: Final = 1_000


def literal(value: Value) -> str:
    """A value as TOML writes it; raises BadInput for text that no UTF-8 file can hold."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_string(key)} = {literal(inner)}" for key, inner in value.items()) + " }"
    return f"{value:_}" if isinstance(value, int) and value >= _WHOLE else repr(value)


def _string(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, which forbids DEL as well."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"{text!r} cannot be written into a file: {error.reason}") from error
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def place(path: Path, folder: Path) -> str:
    """A path as a job file in a folder names it: relative when it lies below, else absolute."""
    try:
        whole, home = path.resolve(), folder.resolve()
    except (RuntimeError, OSError, ValueError) as error:
        raise BadInput(f"{str(path)!r} is no path on this machine: {error}") from error
    inside = whole.relative_to(home).as_posix() if whole.is_relative_to(home) else "~"
    return str(whole) if inside.startswith("~") else inside  # a relative one with ~ would be read as a user's home


def _head(about: Sequence[str]) -> str:
    """The first lines of a job file: its schema, and comments."""
    return "".join([f"#:schema {schema.FILE.as_uri()}\n", *(f"# {line}\n" for line in about)])


def with_fields(text: str, table: str, fields: Mapping[str, Value], about: Sequence[str] = ()) -> str:
    """The text with fields of a table set, below a comment; those that it states already are replaced in their place.

    ``table`` is empty for the fields at the top.
    """
    if not fields:
        return text
    if table and re.search(rf"(?m)^\[{re.escape(table)}\]$", text) is None:
        text = f"{text.rstrip()}\n\n[{table}]\n"
    start, end = _span(text, table)
    inside, added = text[start:end], []
    for name, value in fields.items():
        line = f"{name} = {literal(value)}"
        stated = re.search(rf"(?m)^{re.escape(name)} *=.*$", inside)
        if stated is None:
            added.append(line)
        else:
            inside = inside[: stated.start()] + line + inside[stated.end() :]
    if not added:
        return text[:start] + inside + text[end:]
    lines = "".join(f"{line}\n" for line in (*(f"# {one}" for one in about), *added))
    # Those at the top stand below the comments of the whole file.
    return text[:start] + (lines + inside if table else f"{inside.rstrip()}\n\n{lines}\n") + text[end:]


def _span(text: str, table: str) -> tuple[int, int]:
    """Where the lines of a table begin and end."""
    header = re.search(rf"(?m)^\[{re.escape(table)}\]\n", text) if table else None
    start = header.end() if header else 0
    following = re.compile(r"(?m)^\[").search(text, start)
    return start, following.start() if following else len(text)


@dataclass(frozen=True, slots=True)
class JobAnswers:
    """Answers of a person, and what was found beside them; None where nothing differs from the profile or default."""

    name: str
    profile: str
    package: Path
    data: str | None = None
    rows: Mapping[str, int] | None = None
    """Rows in the data files, by kind, where they lie there already."""
    machine: Mapping[str, Value] | None = None
    budget_usd: float | None = None
    destination: Path | None = None
    remote_dir: str | None = None
    model: Mapping[str, Value] | None = None
    """Base model and its shape, where it is not the profile's."""
    quantization: str | None = None
    floor: Mapping[str, int] | None = None
    """Floor of a model file for which the profile has none."""
    instance_id: int | None = None
    """The instance that the job is to take over."""


def job_file(answers: JobAnswers, folder: Path, base: str = "") -> str:
    """The text of a job file that lies in a folder; ``base`` is one of the examples, to be changed in these places."""
    told = answers
    text = base or f"# {_OF_ADOPTION.format(told.instance_id) if told.instance_id else _OF_RENTAL}\n"
    text = _head(_HOW) + text
    names: dict[str, Value] = {"name": told.name, "profile": told.profile}
    text = with_fields(text, "", names, ("The profile has the numbers of a job that was paid for.",))
    text = with_fields(text, "package", {"source": place(told.package, folder)}, _PACKAGE)
    if told.remote_dir is not None:
        text = with_fields(text, "package", {"remote_dir": told.remote_dir}, ("Where it lies on the box.",))
    data: dict[str, Value] = {"directory": told.data} if told.data is not None else {}
    text = with_fields(
        text, "data", data | {f"files.{kind}.rows": count for kind, count in (told.rows or {}).items()}, _DATA
    )
    text = with_fields(text, "model", told.model or {}, ("The base model, and its shape as in its config.json.",))
    text = with_fields(text, "machine", told.machine or {}, _MACHINE)
    if told.budget_usd is not None:
        text = with_fields(text, "limits", {"budget_usd": told.budget_usd}, _BUDGET)
    artifact: dict[str, Value] = {"quantization": told.quantization} if told.quantization is not None else {}
    artifact |= {"floors": told.floor} if told.floor is not None else {}
    artifact |= {"destination": place(told.destination, folder)} if told.destination is not None else {}
    return with_fields(text, "artifact", artifact, _ARTIFACT)


_HOW: Final = (
    "A job file: what is left out is the profile's, or has a default; an editor that reads the schema shows all of it.",
    "Relative paths begin where this file lies.",
)
_OF_RENTAL: Final = "harness doctor FILE looks at what this job needs here; harness run FILE begins with that look."
_OF_ADOPTION: Final = "For instance {}, which no job has rented: what its training should have been."
_PACKAGE: Final = ("The training package: staged and sent as it lies here. Copy it before you change it.",)
_DATA: Final = (
    "The folder in the package where the data files lie, and their rows: the log must show exactly these before",
    "the first step. A rehearsal on rows that the package builds itself says: allow_built_rows = true",
)
_MACHINE: Final = ("Everything that is billed by the hour counts against the cap; no dearer machine is rented.",)
_BUDGET: Final = ("At this sum the instance is stopped; its disk, with all that was trained, is kept.",)
_ARTIFACT: Final = (
    "The file that must come home, the bytes that it must exceed, and the folder here where it arrives: left out, the",
    "job's own folder.",
)
