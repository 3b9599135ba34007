"""JSON Schema of the job file, for editors; ``schema.json`` beside this is made by ``python -m harness.job.schema``.

The words are those of the model's own docstrings. A profile fills in what a file leaves out, so that little is required
here: ``load_job`` judges the merged whole.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from harness.artifacts import quantizations
from harness.job import model
from harness.job.table import Table
from harness.log.course import CourseLimits

FILE: Final = Path(__file__).with_name("schema.json")
_DRAFT: Final = "http://json-schema.org/draft-07/schema#"
"""The newest that editors' TOML extensions read in full."""


def schema() -> dict[str, Any]:
    """The schema of a job file as a person writes it."""
    whole: dict[str, Any] = _bare(model.Job.model_json_schema())
    tables: dict[str, Any] = whole["$defs"]
    written: dict[str, Any] = {one.__name__: one for one in (*Table.__subclasses__(), CourseLimits)}
    for name, table in {**tables, "Job": whole}.items():
        for field, told in _said(written[name]) if name in written else ():
            if field in table["properties"]:
                table["properties"][field]["description"] = told
        table.pop("required", None)
    tables["PackageTable"]["required"] = ["source"]
    tables["ArtifactTable"]["properties"]["quantization"]["enum"] = list(quantizations.ERRORS)
    del whole["properties"]["adopted"]  # an adoption says so, no file does
    profile = {
        "description": "Name of built-in tables that this file builds on; what it says itself goes before them.",
        "type": "string",
    }
    whole["properties"] = {"name": whole["properties"].pop("name"), "profile": profile, **whole["properties"]}
    required = [name for name, field in model.Job.model_fields.items() if field.is_required()]
    return {
        "$schema": _DRAFT,
        "title": "Job file of gold-standard-harness",
        **whole,
        "required": ["name", "package"],
        "if": {"not": {"required": ["profile"]}},
        "then": {"required": required},
    }


def text() -> str:
    """The schema as it is kept."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _bare(node: Any) -> Any:
    """The node without the titles that pydantic makes of the fields' names."""
    if isinstance(node, dict):
        return {key: _bare(value) for key, value in node.items() if not (key == "title" and isinstance(value, str))}
    return [_bare(item) for item in node] if isinstance(node, list) else node


def _said(of: type) -> Iterator[tuple[str, str]]:
    """Each field of a class that is followed by a docstring, which Python itself does not keep."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(of))).body
    statements = body.body if isinstance(body, ast.ClassDef) else []
    for field, after in pairwise(statements):
        match field, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(told))):
                yield name, inspect.cleandoc(told)


if __name__ == "__main__":
    sys.stdout.write(text())
