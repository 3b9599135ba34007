"""Looks at Python given on the command line: SDK calls that destroy, and commands it would start. Pure.

A text is followed to where it goes (``harness.shellguard.pyflow``): what is only printed, compared, searched for or
written is a mention; what goes anywhere else is read as a command.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from harness.shellguard import machines, provider, rules, webapi
from harness.shellguard.pyflow import Flow, called
from harness.shellguard.reading import HOLE
from harness.shellguard.seen import NestedCall, NestedScript, Seen, Violation
from harness.shellguard.topics import mentions

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
        flow = Flow(tree)
        found = [*_acts(tree, flow, code)]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, RecursionError | MemoryError) and mentions(code):
            yield Violation(rules.UNREADABLE, code)
        yield from (Violation(_SDK[found[1]], found[0]) for found in _SDK_TEXT.finditer(code))
        yield from webapi.acts(code)
        yield NestedScript(code, prose=True)
        return
    yield from found


def _acts(tree: ast.Module, flow: Flow, code: str) -> Iterator[Seen]:
    if flow.only_text:
        return
    handed = (*flow.handed_on(), *flow.arguments())
    texts = " ".join(handed)
    names = [*_names(tree)]
    yield from webapi.acts(" ".join(("".join(handed), texts)), " ".join((*names, texts)))
    yield from (Violation(rules.OTHER_MACHINE, found[0]) for found in machines.PYTHON.finditer(code))
    if "vast" in code.lower():
        # By a string too: ``getattr(client, "destroy_instance")``.
        yield from (Violation(_SDK[name], name) for name in (*names, *handed) if name in _SDK)
    if mentions(texts) or mentions("".join(handed)):
        # In the order of a list, of a text, or of the arguments of a call; and if in none of them, in any.
        yield from _lines(tree, flow)
        yield NestedCall((HOLE, *texts.split()))


def _names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.alias(name=name):
                yield name
            case _:
                pass


def _lines(tree: ast.Module, flow: Flow) -> Iterator[Seen]:
    """Texts and lists of words that are given to calls which may run them."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and not flow.harmless(node)):
        given = [flow.value(one) for one in (*call.args, *(word.value for word in call.keywords))]
        for value in given:
            if isinstance(value, tuple):
                yield NestedCall(value)
            elif any(map(str.isspace, value)):
                yield NestedScript(value, prose=True)
        words = tuple(value for value in given if isinstance(value, str))
        yield NestedCall(words)
        yield NestedCall((called(call), *words))
    for node in ast.walk(tree):
        if isinstance(node, ast.List | ast.Tuple):
            yield NestedCall(flow.words(node))
