"""Looks at Python given on the command line: SDK calls that destroy, and commands it would start. Pure."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from harness.shellguard import provider, rules
from harness.shellguard.reading import HOLE
from harness.shellguard.seen import NestedCall, NestedScript, Seen, Violation

_SDK = {
    command.replace(" ", "_").replace("-", "_"): rule
    for command, rule in provider.RULE_OF.items()
    if rule is not rules.HIDDEN
}

_SDK_TEXT = re.compile(r"\b(" + "|".join(name for name in _SDK if name != "copy") + r")\b")


def look(code: str) -> Iterator[Seen]:
    """Acts of a Python program on an instance; code that does not parse is searched as text."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        yield from (Violation(_SDK[found[1]], found[0]) for found in _SDK_TEXT.finditer(code))
        yield NestedScript(code, prose=True)
        return
    for node in ast.walk(tree):
        yield from _named(node, code)
        yield from _started(node)


def _named(node: ast.AST, code: str) -> Iterator[Seen]:
    """A use of the SDK, by name or by a string that is a name."""
    name = ""
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name) | ast.alias(name=name) | ast.Constant(value=str(name)):
            pass
    if name in _SDK and "vast" in code.lower():
        yield Violation(_SDK[name], name)
    if name == "delete" and provider.API.search(code):
        yield Violation(rules.DIRECT, name)


def _started(node: ast.AST) -> Iterator[Seen]:
    """Strings and lists of strings that could be a command line."""
    match node:
        case ast.List(elts=items) | ast.Tuple(elts=items):
            words = tuple(
                item.value if isinstance(item, ast.Constant) and isinstance(item.value, str) else HOLE for item in items
            )
            if words and HOLE not in words[0]:
                yield NestedCall(words)
        case ast.Constant(value=str(text)) if any(c.isspace() for c in text):
            yield NestedScript(text, prose=True)
        case ast.JoinedStr(values=values):
            text = "".join(str(v.value) if isinstance(v, ast.Constant) else HOLE for v in values)
            yield NestedScript(text, prose=True)
