"""Reads a job file: TOML over a profile, into a ``Job``; every mistake is named with its line and field."""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from harness.core.errors import BadInput
from harness.core.text import printable
from harness.job import profiles
from harness.job.model import Job
from harness.job.provider import ProviderTable
from harness.job.table import FROM_FILE
from harness.providers import registry

_HEADER = re.compile(r"\s*\[+([^\[\]]+)\]")
_KEY = re.compile(r"\s*([\w\"'.\s-]+?)\s*=")
_LINE = re.compile(r"\(at line (\d+),")
_KINDS = {
    "tuple_type": 'a list is needed: ["one", "two"]',
    "dict_type": "a table is needed",
    "model_type": "a table is needed",
}
"""Messages in a job file's words for those that pydantic gives in Python's."""
_WINDOWS = "; write Windows paths in single quotes: 'C:\\models\\mine'"
_PATH_FIELDS = (("package", "source"), ("artifact", "destination"), ("artifact", "second_copy"))


def load_job(path: Path) -> Job:
    """The job of a TOML file; relative paths in it are relative to the file. Raises BadInput."""
    return parse_job(_text(path, "job file"), path)


def load_table(path: Path, what: str) -> dict[str, Any]:
    """The table of any TOML file that a person writes; ``what`` names it in errors. Raises BadInput."""
    return _parsed(_text(path, what), path)


def parse_job(text: str, path: Path) -> Job:
    """The job of a file's text. Raises BadInput."""
    table = _parsed(text, path)
    if "adopted" in table:
        raise BadInput(
            f"{path}: a job file does not say whether an instance is adopted",
            remedy="harness destroy --instance-id N --job-file FILE takes one over.",
        )
    profile = table.pop("profile", None)
    if profile is not None and str(profile) not in profiles.names():
        raise BadInput(f"{path}: profile = {str(profile)!r} is not one of {', '.join(profiles.names())}")
    merged = _merge(profiles.tables(str(profile)), table) if profile is not None else table
    _refuse_tilde(merged, path)
    try:
        job = Job.model_validate(_absolute(merged, path.resolve().parent, path), context=FROM_FILE)
    except ValidationError as error:
        raise BadInput(_explain(path, text, error, has_profile=profile is not None, kind=_kind(merged))) from error
    _refuse_unknown_provider(job.provider.kind, path, text)
    return job


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        hint = _WINDOWS if "\\" in _told_line(text, str(error)) else ""
        raise BadInput(f"{path}: not TOML: {error}{hint}") from error
    except RecursionError as error:
        raise BadInput(f"{path}: not TOML that can be read: it is nested too deeply") from error


def _text(path: Path, what: str) -> str:
    """Text of the file; the mark that Windows editors put before UTF-8 is no part of it."""
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot read the {what} {path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data[:2]:
            raise BadInput(
                f"cannot read the {what} {path}: it is not UTF-8 but UTF-16, as PowerShell's > writes it",
                remedy=f"Save it as UTF-8: Get-Content {path} | Set-Content -Encoding utf8 NEW.toml",
            )
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"cannot read the {what} {path}: not UTF-8, byte {error.start}: {error.reason}",
            remedy="Save it as UTF-8 in your editor and run the command again.",
        ) from error


def _told_line(text: str, told: str) -> str:
    """The line that a parser's message names; empty when it names none."""
    found = _LINE.search(told)
    return text.split("\n")[int(found[1]) - 1] if found else ""


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are merged field by field; anything else in ``over`` replaces what is in ``base``."""
    merged = dict(base)
    for key, value in over.items():
        known = merged.get(key)
        merged[key] = _merge(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged


def _refuse_tilde(table: Mapping[str, Any], file: Path) -> None:
    """Here and not in the model: a job that has begun with one must remain readable."""
    package = table.get("package")
    told = package.get("remote_dir") if isinstance(package, dict) else None
    if isinstance(told, str) and told.startswith("~"):
        raise BadInput(
            f"{file}: package.remote_dir: {printable(told, 200)!r} begins with '~', which is not expanded on the box",
            remedy="Write the whole path, or one relative to the home directory there: x for ~/x.",
        )


def _refuse_unknown_provider(kind: str, file: Path, text: str) -> None:
    """Here and not in the model: a job that has begun must remain readable without its provider's package."""
    try:
        registry.find(kind)
    except BadInput as error:
        line = _line_of(text, ["provider", "kind"])
        where = f"line {line}: " if line else ""
        raise BadInput(f"{file}: {where}provider.kind: {error}", remedy=error.remedy) from error


def _absolute(table: dict[str, Any], folder: Path, file: Path) -> dict[str, Any]:
    for section, field in _PATH_FIELDS:
        inner = table.get(section)
        if isinstance(inner, dict) and isinstance(inner.get(field), str):
            table[section] = {**inner, field: path_in(inner[field], folder, f"{file}: {section}.{field}")}
    gates = table.get("gates")
    if isinstance(gates, dict) and isinstance(gates.get("checks"), list):
        checks = [path_in(str(item), folder, f"{file}: gates.checks") for item in gates["checks"]]
        table["gates"] = {**gates, "checks": checks}
    return table


def path_in(text: str, folder: Path, where: str) -> str:
    """An absolute path; a line feed or a tab in one is a Windows path whose backslashes TOML has read as escapes."""
    if any(character < " " or character == "\x7f" for character in text):
        raise BadInput(f"{where}: {text!r} holds a control character{_WINDOWS}")
    try:
        return str((folder / Path(text).expanduser()).resolve())
    except (RuntimeError, OSError, ValueError) as error:
        raise BadInput(f"{where}: {text!r} is no path on this machine: {error}") from error


def _kind(table: Mapping[str, Any]) -> str:
    """Kind of the provider, as far as the file names one."""
    provider = table.get("provider")
    return str(provider.get("kind", "")) if isinstance(provider, dict) else ""


def _explain(path: Path, text: str, error: ValidationError, *, has_profile: bool, kind: str) -> str:
    lines = [f"{path}: the job file does not fit:"]
    for problem in error.errors():
        location = [str(part) for part in problem["loc"] if part != "[key]"]
        field = ".".join(location) or "(the whole file)"
        line = _line_of(text, location)
        where = f"line {line}: " if line else ""
        told = repr(problem.get("input"))
        # A URL of [notify] is a secret, in a table of another name, too.
        hidden = problem["type"] in {"missing", "extra_forbidden"} or location[:1] == ["notify"] or "://" in told
        got = "" if hidden else f" (got {printable(told, 80)})"
        lines.append(f"  {where}{field}: {_reason(problem, location, kind)}{got}")
    if not has_profile and any(problem["type"] == "missing" for problem in error.errors()):
        lines.append(
            f"  a profile fills in what the file leaves out: profile = {' or '.join(map(repr, profiles.names()))}"
        )
    return "\n".join(lines)


def _reason(problem: ErrorDetails, location: list[str], kind: str) -> str:
    """Reason of a refusal in a job file's words: with the fields that are allowed where one is not known."""
    if problem["type"] != "extra_forbidden":
        return _KINDS.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    table: type[BaseModel] | None = None
    inner: Any = Job
    for name in [*location[:-1], ""]:
        table = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None
        known = table.model_fields.get(name) if table else None
        # The tables of a dict, such as data.files, are all of one kind.
        inner = known.annotation if known else (get_args(inner) or [None])[-1]
    fields = list(table.model_fields) if table else ["nothing"]
    if table is Job:
        fields = ["profile", *(name for name in fields if name != "adopted")]  # no job file says the latter
    if table is ProviderTable:
        own = registry.settings_of(kind)
        fields += own.model_fields if own else ()
        return f"a provider of kind {kind!r} has no such setting; allowed: {', '.join(fields)}"
    return f"there is no such field; allowed: {', '.join(fields)}"


def _line_of(text: str, location: list[str]) -> int | None:
    """The line where a field stands, or what it is part of: its list, its table; None when none of them is there."""
    wanted = location
    while wanted:
        table: list[str] = []
        for number, line in enumerate(text.splitlines(), start=1):
            if header := _HEADER.match(line):
                table = _words(header[1])
                if table == wanted:
                    return number
            elif (key := _KEY.match(line)) and [*table, *_words(key[1])] == wanted:
                return number
        wanted = wanted[:-1]
    return None


def _words(key: str) -> list[str]:
    return [word.strip().strip("\"'") for word in key.split(".")]
