"""Where a message points to a section of the contract, there is one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_every_section_that_is_named_is_there() -> None:
    text = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8").replace("`", "")
    headings = re.findall(r"(?m)^#+ (.*)$", text)
    named = {
        str(node.args[0].value)
        for folder in ("harness", "checks")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "section"
        and isinstance(node.args[0], ast.Constant)
    }
    assert {"Command", "Data", "Outputs", "run.json", "training.log"} <= named
    assert not [name for name in named if not any(heading.startswith(name) for heading in headings)]
