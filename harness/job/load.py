"""Reads a job file: TOML over a profile, into a ``Job``; every mistake is named with its line and field."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.errors import BadInput
from harness.job.model import Job

_PATH_FIELDS = (("package", "source"), ("artifact", "destination"), ("artifact", "second_copy"))


def load_job(path: Path) -> Job:
    """The job of a TOML file; relative paths in it are relative to the file. Raises BadInput."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read the job file {path}: {error}") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path}: not TOML: {error}") from error
    profile = table.pop("profile", None)
    merged = _merge(_profile(str(profile), path), table) if profile is not None else table
    try:
        return Job.model_validate(_absolute(merged, path.resolve().parent))
    except ValidationError as error:
        raise BadInput(_explain(path, text, error)) from error


def profiles() -> tuple[str, ...]:
    """The names of the built-in profiles."""
    folder = resources.files("harness.job") / "profiles"
    return tuple(sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml")))


def _profile(name: str, path: Path) -> dict[str, Any]:
    if name not in profiles():
        raise BadInput(f"{path}: profile = {name!r} is not one of {', '.join(profiles())}")
    text = (resources.files("harness.job") / "profiles" / f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are merged field by field; anything else in ``over`` replaces what is in ``base``."""
    merged = dict(base)
    for key, value in over.items():
        known = merged.get(key)
        merged[key] = _merge(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged


def _absolute(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    for section, field in _PATH_FIELDS:
        inner = table.get(section)
        if isinstance(inner, dict) and isinstance(inner.get(field), str):
            table[section] = {**inner, field: str((folder / Path(inner[field]).expanduser()).resolve())}
    gates = table.get("gates")
    if isinstance(gates, dict) and isinstance(gates.get("checks"), list):
        checks = [str((folder / Path(str(item)).expanduser()).resolve()) for item in gates["checks"]]
        table["gates"] = {**gates, "checks": checks}
    return table


def _explain(path: Path, text: str, error: ValidationError) -> str:
    lines = [f"{path}: the job file does not fit:"]
    for problem in error.errors():
        location = [str(part) for part in problem["loc"]]
        field = ".".join(location) or "(the whole file)"
        line = _line_of(text, location)
        where = f"line {line}: " if line else ""
        got = "" if problem["type"] == "missing" else f" (got {str(problem.get('input'))[:80]!r})"
        lines.append(f"  {where}{field}: {problem['msg']}{got}")
    return "\n".join(lines)


def _line_of(text: str, location: list[str]) -> int | None:
    """The line where a field, or else its table, stands in the file; None when it is not there."""
    table, wanted, found = "", location[:-1], None
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            table = header.group(1).strip()
            if table == ".".join(location):
                return number
            if table == ".".join(wanted):
                found = number
        elif (key := re.match(r"\s*([\w-]+)\s*=", line)) and table == ".".join(wanted) and key.group(1) == location[-1]:
            return number
    return found
