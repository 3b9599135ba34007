"""The way of a model through its function, as far as the text tells: trained, merged or returned. Pure."""

from __future__ import annotations

import ast
from enum import StrEnum

from harness.static import script
from harness.static.script import PythonScript


class Fate(StrEnum):
    """The first thing that happens to a model: a Trainer trains it, its adapter is merged, it is returned, or none."""

    TRAINED = "trained"
    MERGED = "merged"
    RETURNED = "returned"
    OTHER = "other"


def fate(call: ast.Call, code: PythonScript) -> Fate:
    """The fate of what ``call`` gives, followed by its names and through the loading of an adapter on it."""
    around = scope(call, code)
    names: set[str] = set()
    own: set[int] = set()

    def follow(given: ast.Call) -> None:
        own.add(id(given))
        names.update(ast.unparse(store.target) for store in code.stores if store.value is given)

    def is_it(value: ast.expr | None) -> bool:
        return value is not None and (id(value) in own or ast.unparse(value) in names)

    follow(call)
    later = [one for one in code.calls if scope(one, code) is around and one.lineno >= call.lineno]
    for one in sorted(later, key=lambda one: (one.end_lineno or 0, one.end_col_offset or 0)):
        callee = script.callee(one.func)
        if isinstance(one.func, ast.Attribute) and one.func.attr == "merge_and_unload" and is_it(one.func.value):
            return Fate.MERGED
        if callee.endswith("Trainer") and is_it(model_of(one)):
            return Fate.TRAINED
        if callee.split(".")[-2:] == ["PeftModel", "from_pretrained"] and any(map(is_it, one.args)):
            follow(one)
    inside = script.nodes(around) if around is not None else ()
    returned = any(isinstance(node, ast.Return) and is_it(node.value) for node in inside)
    return Fate.RETURNED if returned else Fate.OTHER


def scope(node: ast.expr | ast.stmt, code: PythonScript) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The innermost function around a node; None at the top level of the script."""
    around = [function for function in code.functions if function.lineno <= node.lineno <= (function.end_lineno or 0)]
    return max(around, key=lambda function: function.lineno, default=None)


def model_of(trainer: ast.Call) -> ast.expr | None:
    """The model that a Trainer is given, by name or in the first place."""
    given = next((keyword.value for keyword in trainer.keywords if keyword.arg == "model"), None)
    return given or (trainer.args[0] if trainer.args else None)
