"""A job file as text: answers of a person, each at its place and safe in TOML, with a word on what it means. Pure.

``#:schema`` at the head tells an editor where the file's schema is (taplo.tamasfe.dev, Directives): the file that came
with this harness, so that it works without a network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.core.errors import BadInput
from harness.job import schema

Value = str | int | float | bool | Mapping[str, Any]
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

    ``table`` is empty for the fields at the top. Without fields, the comment alone is added.
    """
    if not fields and not about:
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
    if fields and not added:
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
    provider: Mapping[str, Value] | None = None
    """Provider of the machine, where it is not the profile's."""
    machine: Mapping[str, Value] | None = None
    on_cpu: bool = False
    """True for a rehearsal on a machine without a GPU."""
    budget_usd: float | None = None
    destination: Path | None = None
    remote_dir: str | None = None
    model: Mapping[str, Value] | None = None
    """Base model and its shape, where it is not the profile's."""
    quantization: str | None = None
    floor: Mapping[str, int] | None = None
    """Floor of a model file for which the profile has none."""


@dataclass(frozen=True, slots=True)
class Stated:
    """Fields of one table, and the comment that they stand below."""

    table: str
    fields: Mapping[str, Value]
    about: Sequence[str]


def stated_file(text: str, stated: Iterable[Stated]) -> str:
    """The text of a job file, begun as it is, with what is stated put into its tables."""
    text = _head(_HOW) + text
    for one in stated:
        text = with_fields(text, one.table, one.fields, one.about)
    return text


def job_file(answers: JobAnswers, folder: Path, base: str = "") -> str:
    """The text of a job file that lies in a folder; ``base`` is one of the examples, to be changed in these places."""
    told = answers
    data: dict[str, Value] = {"directory": told.data} if told.data is not None else {}
    artifact: dict[str, Value] = {"quantization": told.quantization} if told.quantization is not None else {}
    artifact |= {"floors": told.floor} if told.floor is not None else {}
    artifact |= {"destination": place(told.destination, folder)} if told.destination is not None else {}
    stated = (
        Stated("", {"name": told.name, "profile": told.profile}, _PROFILE),
        Stated("package", {"source": place(told.package, folder)}, _PACKAGE),
        Stated("package", {} if told.remote_dir is None else {"remote_dir": told.remote_dir}, _THERE),
        Stated("data", data | {f"files.{kind}.rows": count for kind, count in (told.rows or {}).items()}, _DATA),
        Stated("model", told.model or {}, _MODEL),
        Stated("provider", told.provider or {}, _PROVIDER),
        Stated("machine", told.machine or {}, _MACHINE if told.provider is None else _OWN_MACHINE),
        Stated("training", {"accelerator": "cpu"} if told.on_cpu else {}, _REHEARSAL),
        Stated("limits", {} if told.budget_usd is None else {"budget_usd": told.budget_usd}, _BUDGET),
        Stated("artifact", artifact, _ARTIFACT),
    )
    return stated_file(base or f"# {_OF_RENTAL}\n", (one for one in stated if one.fields))


_HOW: Final = (
    "A job file: what is left out is the profile's, or has a default; an editor that reads the schema shows all of it.",
    "Relative paths begin where this file lies.",
)
_OF_RENTAL: Final = "harness doctor FILE looks at what this job needs here; harness run FILE begins with that look."
_PROFILE: Final = ("The profile has the numbers of a job that was paid for.",)
_PACKAGE: Final = ("The training package: staged and sent as it lies here. Copy it before you change it.",)
_THERE: Final = ("Where it lies on the box.",)
_MODEL: Final = ("The base model, and its shape as in its config.json.",)
_DATA: Final = (
    "The folder in the package where the data files lie, and their rows: the log must show exactly these before",
    "the first step. A rehearsal on rows that the package builds itself says: allow_built_rows = true",
)
_MACHINE: Final = ("Everything that is billed by the hour counts against the cap; no dearer machine is rented.",)
_PROVIDER: Final = ("Your own machine, over SSH: nothing is rented, billed or deleted (docs/your-own-box.md).",)
_OWN_MACHINE: Final = ("Its GPUs must be these, and this many at least; CPU stands for none.",)
_REHEARSAL: Final = ("Without a GPU it is a rehearsal: no check looks at GPUs.",)
_BUDGET: Final = ("At this sum the instance is stopped; its disk, with all that was trained, is kept.",)
_ARTIFACT: Final = (
    "The file that must come home, the bytes that it must exceed, and the folder here where it arrives: left out, the",
    "job's own folder.",
)
