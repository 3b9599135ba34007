"""Tests that run through a mutant's lines, the likeliest to notice it first."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.mutants.kinds import Mutant

LONGEST_S = 60.0
"""Seconds that a mutant's tests took together while they were watched, at most: others are left out."""
_FAR = 4.0
"""Times that a test seems longer which does not bear the module's name: short ones of others are asked all the same."""


@dataclass(slots=True)
class Reaching:
    """Which tests run through which lines of which module, and how many seconds each takes."""

    texts: dict[str, str] = field(default_factory=dict)
    lines: dict[str, dict[int, set[str]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)

    @classmethod
    def read(cls, folder: Path, tree: Path) -> Reaching:
        """What a watched run left in a folder."""
        found = cls()
        for file in sorted(folder.glob("*.json")):
            seen = json.loads(file.read_text("utf-8"))
            of_context = defaultdict(set)
            for test, (seconds, shared) in seen["tests"].items():
                found.seconds[test] = seconds
                for context in (test, *shared):
                    of_context[context].add(test)
            for path, contexts in seen["lines"].items():
                if not path.endswith(".py"):  # a template, whose lines are those of what it became
                    continue
                found.texts[path] = (tree / path).read_text("utf-8")
                lines = found.lines.setdefault(path, defaultdict(set))
                for context, numbers in contexts.items():
                    for number in numbers:
                        lines[number] |= of_context[context]
        return found

    def noticed(self, test: str) -> None:
        """Remember a function of tests that noticed a mutant; it is asked first from now on."""
        self.kills[test] += 1

    def tests(self, mutant: Mutant) -> list[str]:
        """Tests that reach it, none where none was seen: it may be reached in another process."""
        seen = self.lines.get(mutant.path, {})
        found = {test for line in range(mutant.line, mutant.last + 1) for test in seen.get(line, ())}
        text = self.texts.get(mutant.path, "")
        # A line that runs at the import is seen in the one test that imports its module first.
        at_import = not found or not _in_function(text, mutant.line)
        if at_import and (names := frozenset(_named(text, mutant.line))):
            word = re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(names)))})\b")
            for path, lines in self.lines.items():
                written = self.texts[path].splitlines()
                found |= {test for line, tests in lines.items() if word.search(written[line - 1]) for test in tests}
        word_of_module = Path(mutant.path).stem.removeprefix("check_")

        def rank(test: str) -> tuple[int, float]:
            function, _, _ = test.partition("[")
            return -self.kills[function], self.seconds[test] * (1 if word_of_module in function else _FAR)

        chosen: list[str] = []
        seconds = 0.0
        for test in sorted(found, key=rank):
            seconds += self.seconds[test]
            if seconds > LONGEST_S and chosen:
                break
            chosen.append(test)
        files = list(dict.fromkeys(test.partition("::")[0] for test in chosen))
        return sorted(chosen, key=lambda test: files.index(test.partition("::")[0]))


def _in_function(text: str, line: int) -> bool:
    bodies = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return any(node.body[0].lineno <= line <= (node.end_lineno or 0) for node in bodies)


def _named(text: str, line: int) -> Iterator[str]:
    """Names by which a statement outside of functions is known: its own, and those of constants made with it."""
    tree = ast.parse(text)
    names: set[str] = set()
    for node in tree.body:
        own = set()
        match node:
            case ast.Assign(targets=targets):
                own = {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                own = {name}
        at_once = node.args if isinstance(node, ast.FunctionDef) else node  # a function's defaults
        used = {one.id for one in ast.walk(at_once) if isinstance(one, ast.Name)}
        if node.lineno <= line <= (node.end_lineno or 0) or names & used:
            names |= own
    yield from names
