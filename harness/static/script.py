"""Settings and imports of a Python script, read from its syntax tree; it is never run. Pure.

A value that is computed, read from the environment or set in two ways cannot be read
from the text: that is CouldNotLook, never a guess.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from harness.core.observed import CouldNotLook

N = TypeVar("N", bound=ast.AST)

BATCH_SIZE = "BATCH_SIZE"
"""The constant that the operating rules set with ``sed`` in the entry script."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A value that stands in a script; ``value`` is None when the text does not tell it. ``line`` counts from 1."""

    line: int
    value: str | None
    source: str


@dataclass(frozen=True, slots=True)
class Store:
    """A place that something is stored into; ``value`` is what a plain assignment puts there."""

    target: ast.expr
    value: ast.expr | None


@dataclass(frozen=True, slots=True)
class PythonScript:
    """A script's syntax tree, walked once: its nodes by kind, and the names that stand for one literal."""

    calls: tuple[ast.Call, ...]
    stores: tuple[Store, ...]
    imports: tuple[ast.Import | ast.ImportFrom, ...]
    tables: tuple[ast.Dict, ...]
    functions: tuple[ast.FunctionDef | ast.AsyncFunctionDef, ...]
    strings: tuple[str, ...]
    touched: frozenset[str]
    uses: tuple[ast.Name | ast.Attribute, ...]
    constants: Mapping[str, str]
    guarded: frozenset[int]
    """Lines of the imports that stand below an ``if`` or a ``try``, which may do without them."""


def parse(text: str, name: str = "the script") -> PythonScript:
    """Read a script that compiles; raises CouldNotLook with the line that does not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text, name)
            compile(tree, name, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise CouldNotLook(f"{name}:{error.lineno or 0}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise CouldNotLook(f"{name}: cannot be compiled: {error}") from None
    return _gather(tree)


def batch_size(text: str) -> int:
    """The one value of ``BATCH_SIZE`` in a script's text; raises CouldNotLook when there is none to be read."""
    return one_batch_size(batch_size_settings(parse(text)))


def one_batch_size(settings: tuple[Setting, ...]) -> int:
    """The one whole number that all settings state; raises CouldNotLook otherwise."""
    if not settings:
        raise CouldNotLook(f"{BATCH_SIZE} is not set in the script")
    for one in settings:
        if one.value is None or not re.fullmatch(r"\d{1,9}", one.value):
            raise CouldNotLook(f"line {one.line}: {one.source}: not a whole number that can be read")
    values = {int(one.value or "") for one in settings}
    if len(values) > 1:
        places = ", ".join(f"line {one.line}: {one.value}" for one in settings)
        raise CouldNotLook(f"{BATCH_SIZE} is set to different values: {places}")
    return values.pop()


def batch_size_settings(script: PythonScript) -> tuple[Setting, ...]:
    """Every place that gives ``BATCH_SIZE`` a value, also from another module or by name."""
    stores = [store for store in script.stores if _stored_name(store.target) == BATCH_SIZE]
    found = [setting(store.target, store.value, script) for store in stores]
    found += [
        setting(call, call.args[2], script)
        for call in script.calls
        if callee(call.func) == "setattr" and len(call.args) == 3 and _constant(call.args[1]) == BATCH_SIZE
    ]
    return tuple(sorted(found, key=lambda one: one.line))


def imported(script: PythonScript, package: str) -> Iterator[str]:
    """Dotted names of modules that a script may import; ``package`` is the dotted name of its own folder."""
    for node in script.imports:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            continue
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level and package else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        yield base
        yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)


def needs(script: PythonScript, module: str) -> bool:
    """True when a script imports a top-level module where nothing guards against its absence."""
    bare = [node for node in script.imports if node.lineno not in script.guarded]
    names = [alias.name for node in bare if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in bare if isinstance(node, ast.ImportFrom) and not node.level]
    return any(name.split(".")[0] == module for name in names)


def callee(function: ast.expr) -> str:
    """The dotted name of what is called, as far as it is one."""
    names = []
    while isinstance(function, ast.Attribute):
        names.append(function.attr)
        function = function.value
    if isinstance(function, ast.Name):
        names.append(function.id)
    return ".".join(reversed(names))


def keywords(call: ast.Call, script: PythonScript) -> tuple[dict[str, ast.expr], bool]:
    """A call's keywords by name, those of a table behind ``**`` included; and whether that is all of them."""
    options: dict[str, ast.expr] = {}
    whole = True
    for keyword in call.keywords:
        if keyword.arg is not None:
            options[keyword.arg] = keyword.value
            continue
        table = _written_out(keyword.value, script)
        whole = whole and table is not None
        for key, value in zip(table.keys, table.values, strict=True) if table else ():
            if isinstance(key, ast.Constant):
                options[str(key.value)] = value
            else:
                whole = False
    return options, whole


def literal_text(value: ast.expr) -> str | None:
    """A literal as text: strings as they are, anything else as Python writes it; None when it is not a literal."""
    try:
        plain = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    return plain if isinstance(plain, str) else repr(plain)


_LEAVES = (ast.expr_context, ast.operator, ast.cmpop, ast.unaryop, ast.boolop)


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node of a tree but operators and contexts, which say nothing here, and but the body of ``if False:``."""
    pending = [tree]
    while pending:
        node = pending.pop()
        yield node
        dead = isinstance(node, ast.If) and isinstance(node.test, ast.Constant) and not node.test.value
        for field in node._fields:
            if dead and field == "body":
                continue
            value = getattr(node, field, None)
            if isinstance(value, list):
                pending += [item for item in value if isinstance(item, ast.AST)]
            elif isinstance(value, ast.AST) and not isinstance(value, _LEAVES):
                pending.append(value)


def _gather(tree: ast.Module) -> PythonScript:
    found: defaultdict[type, list[Any]] = defaultdict(list)
    for node in nodes(tree):
        found[type(node)].append(node)
    imports: list[ast.Import | ast.ImportFrom] = [*_of(found, ast.Import), *_of(found, ast.ImportFrom)]
    stores = (*_stores(found), *_imported_names(imports))
    named: list[ast.Name | ast.Attribute] = [*_of(found, ast.Name), *_of(found, ast.Attribute)]
    owners = [node.value for node in _of(found, ast.Attribute)] + [node.value for node in _of(found, ast.Subscript)]
    return PythonScript(
        calls=tuple(_of(found, ast.Call)),
        stores=stores,
        imports=tuple(imports),
        tables=tuple(_of(found, ast.Dict)),
        functions=(*_of(found, ast.FunctionDef), *_of(found, ast.AsyncFunctionDef)),
        strings=tuple(filter(None, map(_text, _of(found, ast.Constant)))),
        touched=frozenset(owner.id for owner in owners if isinstance(owner, ast.Name)),
        uses=tuple(node for node in named if isinstance(node.ctx, ast.Load)),
        constants=_constants(tree, stores, [node.arg for node in _of(found, ast.arg)]),
        guarded=frozenset(
            inner.lineno
            for node in (*_of(found, ast.If), *_of(found, ast.Try))
            for inner in ast.walk(node)
            if isinstance(inner, ast.Import | ast.ImportFrom)
        ),
    )


def _of(found: Mapping[type, list[Any]], kind: type[N]) -> list[N]:
    return found.get(kind, [])


def _stores(found: Mapping[type, list[Any]]) -> Iterator[Store]:
    values: dict[int, ast.expr | None] = {}
    for assignment in _of(found, ast.Assign):
        values |= {id(target): assignment.value for target in assignment.targets}
    values |= {id(node.target): node.value for node in _of(found, ast.AnnAssign)}
    values |= {id(node.target): node.value for node in _of(found, ast.NamedExpr)}
    targets: list[ast.Name | ast.Attribute | ast.Subscript] = [*_of(found, ast.Name), *_of(found, ast.Attribute)]
    for node in (*targets, *_of(found, ast.Subscript)):
        if isinstance(node.ctx, ast.Store):
            declared_only = id(node) in values and values[id(node)] is None  # "BATCH_SIZE: int" stores nothing
            if not declared_only:
                yield Store(node, values.get(id(node)))


def _imported_names(imports: Iterable[ast.Import | ast.ImportFrom]) -> Iterator[Store]:
    for statement in imports:
        for alias in statement.names:
            name = alias.asname or alias.name.split(".")[0]
            yield Store(ast.Name(name, ast.Store(), lineno=statement.lineno, col_offset=0), None)


def _constants(tree: ast.Module, stores: Iterable[Store], parameters: Iterable[str]) -> dict[str, str]:
    """Names that the script binds exactly once, at its top level, to a literal."""
    bound = Counter(store.target.id for store in stores if isinstance(store.target, ast.Name))
    bound.update(parameters)
    found = {}
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if bound[name] == 1:
                text = literal_text(value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if bound[name] == 1:
                text = literal_text(value)
            case _:
                continue
        if text is not None:
            found[name] = text
    return found


def setting(node: ast.expr, value: ast.expr | None, script: PythonScript) -> Setting:
    """Setting that a script stores at a place; a name is followed when it stands for one literal."""
    if value is None:
        return Setting(node.lineno, None, ast.unparse(node))
    known = script.constants.get(value.id) if isinstance(value, ast.Name) else literal_text(value)
    return Setting(node.lineno, known, f"{ast.unparse(node)[:80]} <- {ast.unparse(value)[:80]}")


def _constant(value: ast.expr) -> object:
    return value.value if isinstance(value, ast.Constant) else None


def _text(constant: ast.Constant) -> str:
    value = constant.value
    return value if isinstance(value, str) else value.decode("latin-1") if isinstance(value, bytes) else ""


def _stored_name(target: ast.expr) -> object:
    if isinstance(target, ast.Name):
        return target.id
    if isinstance(target, ast.Attribute):
        return target.attr
    return _constant(target.slice) if isinstance(target, ast.Subscript) else None


def _written_out(value: ast.expr, script: PythonScript) -> ast.Dict | None:
    """A table that stands there, or the one that a name is bound to at one place and never changed afterwards."""
    if isinstance(value, ast.Dict):
        return value
    if not isinstance(value, ast.Name) or value.id in script.touched:
        return None
    bound = [store for store in script.stores if isinstance(store.target, ast.Name) and store.target.id == value.id]
    stored = bound[0].value if len(bound) == 1 else None
    return stored if isinstance(stored, ast.Dict) else None
