"""Mutants of a module: each is one small change of its text, of a kind that a slip of the hand makes."""

from __future__ import annotations

import ast
import random
import re
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
_BOUND = "bound"
_CAUGHT = "caught"
_TRUTH = "truth"
_BOUND_NAME = re.compile(r"_?(?:MAX|LONGEST|SHORTEST|NAMED|SHOWN)(?:_.*)?|.*_(?:S|LIMIT|BYTES)")
_TELLS = {"note", "debug", "info", "warning", "printable", "section"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: the module's path, its kind, its lines, the text before and after, and the whole changed module."""

    path: str
    kind: str
    line: int
    last: int
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
                found.append(
                    Mutant(path, kind, node.lineno, node.end_lineno or 0, before, after, _replaced(text, node, after))
                )
    return found


def _reached(node: ast.AST, role: str) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """Nodes that do something, each with its role: part of a module's constant, of what is caught, of a truth.

    Left out: annotations, decorators, ``__all__``, what is for type checkers only, words for people, and the insides of
    f-strings, whose places Python 3.11 does not tell.
    """
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "bases", "type_params", "msg"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.JoinedStr) or _says_nothing(child):
                continue
            inside = role
            if isinstance(node, ast.Module) and isinstance(child, ast.Assign | ast.AnnAssign):
                target = child.target if isinstance(child, ast.AnnAssign) else child.targets[0]
                inside = _BOUND if _BOUND_NAME.fullmatch(ast.unparse(target)) else _CONSTANT
            elif isinstance(node, ast.ExceptHandler):
                inside = _CAUGHT if name == "type" else ""
            elif isinstance(node, ast.FunctionDef):
                inside = _TRUTH if node.returns and ast.unparse(node.returns) == "bool" else ""
            if isinstance(child, ast.expr | ast.stmt):
                yield child, inside
            if not isinstance(child, ast.Raise):
                yield from _reached(child, inside)


def _says_nothing(node: ast.AST) -> bool:
    match node:
        case ast.Assign(targets=[ast.Name(id="__all__" | "__slots__")]) | ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Assign(targets=[ast.Name(id=alias)], value=ast.Subscript(value=ast.Name(id=generic))):
            return alias[0].isupper() and not alias.isupper() and generic[0].isupper()  # a name for a type
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) | ast.Expr(
            ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name))
        ):
            return name in _TELLS
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


def _number(node: ast.AST, role: str, rng: random.Random) -> Iterator[str]:
    """A bound that somebody chose is left as it is: one more or less is as good."""
    if role != _BOUND and isinstance(node, ast.Constant) and type(node.value) in {int, float}:
        yield f"({ast.unparse(node)} {rng.choice('+-')} 1)"


def _answer(node: ast.AST, role: str, rng: random.Random) -> Iterator[str]:
    if isinstance(node, ast.Return) and node.value is not None:
        others = {"True", "False"} if role == _TRUTH else {"None", "True", "False"}
        yield f"return {rng.choice(sorted(others - {ast.unparse(node.value)}))}"


def _refusal(node: ast.AST, _role: str, _rng: random.Random) -> Iterator[str]:
    if isinstance(node, ast.Raise | ast.Assert):
        yield "pass"


def _exception(node: ast.AST, role: str, rng: random.Random) -> Iterator[str]:
    if role == _CAUGHT and isinstance(node, ast.Tuple) and len(node.elts) > 1:
        yield _without_one(node, rng)


def _call(node: ast.AST, _role: str, _rng: random.Random) -> Iterator[str]:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "pass"


def _element(node: ast.AST, role: str, rng: random.Random) -> Iterator[str]:
    """A constant's table: one of its elements goes, or one of its words becomes another."""
    if role not in {_CONSTANT, _BOUND}:
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
    "refusal left out": _refusal,
    "exception let through": _exception,
    "call left out": _call,
    "table's element": _element,
}
