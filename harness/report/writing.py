"""Puts the report's files on the disk so that they survive a crash."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from harness.core import durable
from harness.core.errors import BadInput
from harness.report import html, junit, markdown
from harness.report.model import Report


class Form(StrEnum):
    """Forms of the report."""

    HTML = "html"
    MD = "md"
    JSON = "json"
    JUNIT = "junit"


USUAL: Final = (Form.MD, Form.JSON, Form.HTML)
"""Forms that every command leaves behind."""

NAMES: Final[Mapping[Form, str]] = {
    Form.HTML: "GOLD_STANDARD.html",
    Form.MD: "GOLD_STANDARD.md",
    Form.JSON: "GOLD_STANDARD.json",
    Form.JUNIT: "GOLD_STANDARD.junit.xml",
}


def write(report: Report, directory: Path, formats: Iterable[Form] = USUAL) -> tuple[Path, ...]:
    """Write the report in some forms, and return their paths in that order; raises BadInput when it cannot."""
    written = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for form in dict.fromkeys(formats):
            path = directory / NAMES[form]
            durable.write(path, _rendered(report, form))
            written.append(path)
    except OSError as error:
        raise BadInput(f"cannot write the report to {directory}: {error.strerror or error}") from error
    return tuple(written)


def dump(report: Report) -> bytes:
    """ASCII JSON, for programs; equal reports have equal bytes."""
    told = TypeAdapter(Report).dump_python(report, mode="json")
    return json.dumps(told, indent=1, sort_keys=True, allow_nan=False).encode()


def _rendered(report: Report, form: Form) -> bytes:
    match form:
        case Form.HTML:
            return html.render(report).encode("utf-8", "replace")
        case Form.MD:
            return markdown.render(report).encode("utf-8", "replace")
        case Form.JSON:
            return dump(report)
        case Form.JUNIT:
            return junit.render(report)
