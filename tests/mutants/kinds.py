"""Mutants of a module: each is one small change of its text, of a kind that a slip of the hand makes."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_FLIPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_CONSTANT = "constant"
_CAUGHT = "caught"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: the module's path, its kind, its line, the text before and after, and the whole changed module."""

    path: str
    kind: str
    line: int
    before: str
    after: str
    text: str


def mutants(path: str, text: str, rng: random.Random) -> list[Mutant]:
    """Every mutant of a module; where a kind leaves a choice (one more or one less), the generator takes it."""
    tree = ast.parse(text)
    found = []
    for node, role in _reached(tree, ""):
        for kind, make in KINDS.items():
            for after in make(node, role, rng):
                before = ast.get_source_segment(text, node) or ""
                found.append(Mutant(path, kind, node.lineno, before, after, _replaced(text, node, after)))
    return found


def _reached(node: ast.AST, role: str) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """Nodes that do something, each with its role: part of a constant of the module, of what is caught, or neither.

    Left out: annotations, decorators, ``__all__``, what is for type checkers only, and the insides of f-strings, whose
    places Python 3.11 does not tell.
    """
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "bases", "type_params"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.JoinedStr) or _says_nothing(child):
                continue
            inside = role
            if isinstance(node, ast.Module) and isinstance(child, ast.Assign | ast.AnnAssign):
                inside = _CONSTANT
            elif isinstance(node, ast.ExceptHandler):
                inside = _CAUGHT if name == "type" else ""
            if isinstance(child, ast.expr | ast.stmt):
                yield child, inside
            yield from _reached(child, inside)


def _says_nothing(node: ast.AST) -> bool:
    match node:
        case ast.Assign(targets=[ast.Name(id="__all__")]) | ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Expr(value=ast.Constant()):
            return True
    return False


def _replaced(text: str, node: ast.expr | ast.stmt, after: str) -> str:
    lines = text.encode().splitlines(keepends=True)
    begin = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    end = sum(map(len, lines[: (node.end_lineno or 0) - 1])) + (node.end_col_offset or 0)
    whole = text.encode()
    return (whole[:begin] + after.encode() + whole[end:]).decode()


def _comparison(node: ast.AST, _role: str, rng: random.Random) -> Iterator[str]:
    if isinstance(node, ast.Compare):
        place = rng.randrange(len(node.ops))
        ops = [_FLIPPED[type(op)]() if place == at else op for at, op in enumerate(node.ops)]
        yield f"({ast.unparse(ast.Compare(node.left, ops, node.comparators))})"


def _boolean(node: ast.AST, _role: str, _rng: random.Random) -> Iterator[str]:
    if isinstance(node, ast.BoolOp):
        other = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        yield f"({ast.unparse(ast.BoolOp(other, node.values))})"


def _negation(node: ast.AST, _role: str, _rng: random.Random) -> Iterator[str]:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield f"({ast.unparse(node.operand)})"


def _number(node: ast.AST, _role: str, rng: random.Random) -> Iterator[str]:
    if isinstance(node, ast.Constant) and type(node.value) in {int, float}:
        yield f"({ast.unparse(node)} {rng.choice('+-')} 1)"


def _answer(node: ast.AST, _role: str, rng: random.Random) -> Iterator[str]:
    if isinstance(node, ast.Return) and node.value is not None:
        others = {"None", "True", "False"} - {ast.unparse(node.value)}
        yield f"return {rng.choice(sorted(others))}"


def _exception(node: ast.AST, role: str, rng: random.Random) -> Iterator[str]:
    if role == _CAUGHT and isinstance(node, ast.Tuple) and len(node.elts) > 1:
        yield _without_one(node, rng)


def _call(node: ast.AST, _role: str, _rng: random.Random) -> Iterator[str]:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "pass"


def _element(node: ast.AST, role: str, rng: random.Random) -> Iterator[str]:
    """A constant's table: one of its elements goes, or one of its words becomes another."""
    if role != _CONSTANT:
        return
    if isinstance(node, ast.Tuple | ast.List | ast.Set) and len(node.elts) > 1:
        yield _without_one(node, rng)
    if isinstance(node, ast.Dict) and len(node.keys) > 1:
        lost = rng.randrange(len(node.keys))
        kept = [at for at in range(len(node.keys)) if at != lost]
        yield ast.unparse(ast.Dict([node.keys[at] for at in kept], [node.values[at] for at in kept]))
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
        yield repr(node.value + "_")


def _without_one(node: ast.Tuple | ast.List | ast.Set, rng: random.Random) -> str:
    lost = rng.randrange(len(node.elts))
    kept = [element for at, element in enumerate(node.elts) if at != lost]
    return ast.unparse(ast.Set(kept) if isinstance(node, ast.Set) else type(node)(kept, ast.Load()))


KINDS: dict[str, Callable[[ast.AST, str, random.Random], Iterator[str]]] = {
    "comparison flipped": _comparison,
    "and for or": _boolean,
    "not dropped": _negation,
    "number off by one": _number,
    "another answer": _answer,
    "exception let through": _exception,
    "call left out": _call,
    "table's element": _element,
}
