"""``docs/seeds.md`` from ``docs/seeds.toml``: every statement of the first user's documents with what shows it.

``python -m tests.support.seeds_page`` writes the page. It fails for a statement that nothing shows, and for a check, a
test or a command that is not there.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.cli.main import COMMANDS
from harness.core import shipped
from harness.shellguard import handbook

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "docs" / "seeds.toml"
PAGE = ROOT / "docs" / "seeds.md"

_HEAD = """\
# The first user's documents, statement by statement

Two documents are this project's specification: the words of somebody who lost a model and $30. Here is each of their
statements, in their order, with the gates, tests and commands that show that it holds, and a note where the world has
moved since. Built by `python -m tests.support.seeds_page`, which fails for a statement that nothing shows.
"""


def page(source: Mapping[str, Any]) -> str:
    """The page in Markdown. Raises ValueError naming every statement that nothing shows, and all that is not there."""
    wrong = list(_unshown(source))
    if wrong:
        raise ValueError("\n".join(wrong))
    lines = [_HEAD]
    for document in source["document"]:
        lines += [f"\n## {document['name']}\n", "| statement | shown by | where it differs |", "|---|---|---|"]
        lines += [
            f"| {_cell(one['says'])} | {_names(one['by'])} | {_cell(one.get('differs', ''))} |"
            for one in document["statements"]
        ]
    return "\n".join(lines) + "\n"


def _unshown(source: Mapping[str, Any]) -> Iterator[str]:
    checks = {f"{claim.stage}/{claim.check}" for claim in handbook.claims(shipped.folder("checks"))}
    for document in source["document"]:
        for statement in document["statements"]:
            says, shown = statement["says"], statement.get("by", [])
            if not shown:
                yield f"{document['name']}: nothing shows {says!r}"
            yield from (f"{says!r} is shown by {name}, which is not there" for name in shown if not _is(name, checks))


def _is(name: str, checks: set[str]) -> bool:
    """True for a check, for a test by its file and function, and for a command of the harness."""
    if name.startswith("harness "):
        return name.removeprefix("harness ") in COMMANDS
    if not name.startswith("tests/"):
        return name in checks
    path, _, test = name.partition("::")
    return (ROOT / path).is_file() and (not test or test in _functions(ROOT / path))


def _functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def _names(shown: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in shown)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<").replace("*", "\\*")


def main() -> int:
    """Write the page; returns the exit status."""
    try:
        written = page(tomllib.loads(SOURCE.read_text(encoding="utf-8")))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    PAGE.write_text(written, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
