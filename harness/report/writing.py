"""Puts the report's files on the disk so that they survive a crash."""

from __future__ import annotations

from pathlib import Path

from harness.core import durable
from harness.core.errors import BadInput
from harness.report import jsonfile, markdown
from harness.report.model import Report

MARKDOWN = "GOLD_STANDARD.md"
JSON = "GOLD_STANDARD.json"


def write(report: Report, directory: Path) -> tuple[Path, Path]:
    """Write the Markdown and the JSON form, and return their paths; raises BadInput when they cannot be written."""
    files = {
        directory / MARKDOWN: markdown.render(report).encode("utf-8", "replace"),
        directory / JSON: jsonfile.dump(report),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, data in files.items():
            durable.write(path, data)
    except OSError as error:
        raise BadInput(f"cannot write the report to {directory}: {error.strerror or error}") from error
    return directory / MARKDOWN, directory / JSON
