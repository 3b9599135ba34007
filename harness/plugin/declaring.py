"""The checks that stand in the files of a folder: what an option keeps from being collected is still required.

``--lf``, ``--ignore``, a node id on the command line or a hook of somebody's conftest.py keep checks
from being collected. The files say which ones there are.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.core.ids import CheckId

PREFIX = "check_"


@dataclass(frozen=True, slots=True)
class Declared:
    """The ids of the checks in some folders, and what is wrong with their files."""

    checks: tuple[CheckId, ...]
    problems: tuple[str, ...]


def in_folders(folders: Iterable[Path]) -> Declared:
    """Every function ``check_*`` at the top level, or in a class that pytest collects, of every file ``check_*.py``."""
    checks: list[CheckId] = []
    problems: list[str] = []
    for folder in sorted(set(folders)):
        for path in sorted(folder.glob(f"{PREFIX}*.py")):
            try:
                tree = ast.parse(path.read_bytes(), str(path))
            except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
                # MemoryError: the parser's stack is full, of a file that is nested without end.
                problems.append(f"cannot read the checks of {path}: {error}")
                continue
            checks += _checks(tree.body)
            problems += [f"{path}:{line}: an assertion of a tuple always holds" for line in _always_true(tree)]
    return Declared(tuple(dict.fromkeys(checks)), tuple(problems))


def _checks(body: Iterable[ast.stmt]) -> list[CheckId]:
    found = []
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name.startswith(("Check", "Test")):
            found += _checks(node.body)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _is_check(node):
            found.append(CheckId(node.name.removeprefix(PREFIX)))
    return found


def _is_check(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    fixture = any("fixture" in ast.unparse(decorator) for decorator in node.decorator_list)
    return node.name.startswith(PREFIX) and not fixture


def _always_true(tree: ast.Module) -> list[int]:
    asserted = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    return [node.lineno for node in asserted if isinstance(node.test, ast.Tuple) and node.test.elts]
