"""What a script says of itself, read from its syntax tree; it is never run. Pure.

A value that is computed, read from the environment or set in two ways cannot be read
from the text: that is CouldNotLook, never a guess.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from harness.observed import CouldNotLook

BATCH_SIZE = "BATCH_SIZE"
"""The constant that the operating rules set with ``sed`` in the entry script."""

DEVICE_MAP = "device_map"

_MODEL_CLASS = re.compile(r"AutoModel\w*|\w+For[A-Z]\w*|\w+LMHeadModel")
"""Classes of transformers whose ``from_pretrained`` puts weights on devices."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A value that stands in a script; ``value`` is None when the text does not tell it. ``line`` counts from 1."""

    line: int
    value: str | None
    source: str


def parse(text: str, name: str = "the script") -> ast.Module:
    """The syntax tree of a script that compiles; raises CouldNotLook with the line that does not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text, name)
            compile(tree, name, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise CouldNotLook(f"{name}:{error.lineno or 0}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise CouldNotLook(f"{name}: cannot be compiled: {error}") from None
    return tree


def batch_size(text: str) -> int:
    """The one value of ``BATCH_SIZE`` in a script's text; raises CouldNotLook when there is none to be read."""
    return one_batch_size(batch_size_settings(parse(text)))


def one_batch_size(settings: tuple[Setting, ...]) -> int:
    """The one whole number that all settings state; raises CouldNotLook otherwise."""
    if not settings:
        raise CouldNotLook(f"{BATCH_SIZE} is not set in the script")
    for setting in settings:
        if setting.value is None or not re.fullmatch(r"\d{1,9}", setting.value):
            raise CouldNotLook(f"line {setting.line}: {setting.source}: not a whole number that can be read")
    values = {int(setting.value or "") for setting in settings}
    if len(values) > 1:
        places = ", ".join(f"line {setting.line}: {setting.value}" for setting in settings)
        raise CouldNotLook(f"{BATCH_SIZE} is set to different values: {places}")
    return values.pop()


def device_maps(text: str) -> tuple[str, ...]:
    """Every ``device_map`` that a script's text loads a model with; raises CouldNotLook for one that is computed."""
    found = []
    for setting in device_map_settings(parse(text)):
        if setting.value is None:
            raise CouldNotLook(f"line {setting.line}: {setting.source}: its value cannot be read from the script")
        found.append(setting.value)
    return tuple(found)


def batch_size_settings(tree: ast.Module) -> tuple[Setting, ...]:
    """Every place that gives ``BATCH_SIZE`` a value, also from another module or by name."""
    constants = _constants(tree)
    found = [_setting(node, value, constants) for node, value in _bindings(tree) if _bound_name(node) == BATCH_SIZE]
    found += [
        _setting(call, call.args[2], constants)
        for call in calls(tree)
        if callee(call.func) == "setattr" and len(call.args) == 3 and _literal(call.args[1]) == BATCH_SIZE
    ]
    return tuple(sorted(found, key=lambda setting: setting.line))


def device_map_settings(tree: ast.Module) -> tuple[Setting, ...]:
    """Every ``device_map`` that a call is given, and every model that is loaded without one.

    A call that is no loader may be told of a device map without using it (to log it), so that
    only a value that stands there counts; a helper that hands a variable on to the loader is
    found at the loader.
    """
    constants = _constants(tree)
    found = []
    for call in calls(tree):
        options, whole = _keywords(call, tree)
        loads = _loads_a_model(call)
        if DEVICE_MAP in options:
            setting = _setting(call, options[DEVICE_MAP], constants)
            found += [setting] if loads or setting.value is not None else []
        elif loads:
            found.append(Setting(call.lineno, "None" if whole else None, f"{callee(call.func)}() without {DEVICE_MAP}"))
    return tuple(sorted(found, key=lambda setting: setting.line))


def imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Dotted names of modules that a module may import; ``package`` is the dotted name of its own folder."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level and package else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)


def _setting(node: ast.expr, value: ast.expr | None, constants: dict[str, str]) -> Setting:
    if value is None:
        return Setting(node.lineno, None, ast.unparse(node))
    known = constants.get(value.id) if isinstance(value, ast.Name) else literal_text(value)
    return Setting(node.lineno, known, f"{ast.unparse(node)[:80]} <- {ast.unparse(value)[:80]}")


def literal_text(value: ast.expr) -> str | None:
    """A literal as text: strings as they are, anything else as Python writes it; None when it is not a literal."""
    try:
        plain = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    return plain if isinstance(plain, str) else repr(plain)


def _literal(value: ast.expr) -> object:
    return value.value if isinstance(value, ast.Constant) else None


def _constants(tree: ast.Module) -> dict[str, str]:
    """Names that the module binds exactly once, at its top level, to a literal."""
    bound: dict[str, int] = {}
    for node, _ in _bindings(tree):
        name = node.id if isinstance(node, ast.Name) else None
        if name:
            bound[name] = bound.get(name, 0) + 1
    for parameter in ast.walk(tree):
        if isinstance(parameter, ast.arg):
            bound[parameter.arg] = bound.get(parameter.arg, 0) + 1
    found = {}
    for statement in tree.body:
        target, value = _assignment(statement)
        if isinstance(target, ast.Name) and value is not None and bound[target.id] == 1:
            text = literal_text(value)
            if text is not None:
                found[target.id] = text
    return found


def _assignment(statement: ast.stmt) -> tuple[ast.expr | None, ast.expr | None]:
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        return statement.targets[0], statement.value
    if isinstance(statement, ast.AnnAssign):
        return statement.target, statement.value
    return None, None


def _bindings(tree: ast.Module) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """Every expression that is stored into, with what is stored when a plain assignment says so."""
    plain: dict[int, ast.expr] = {}
    declared: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            plain |= {id(target): node.value for target in node.targets}
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            plain[id(node.target)] = node.value
        elif isinstance(node, ast.AnnAssign):
            declared.add(id(node.target))  # "BATCH_SIZE: int" alone binds nothing
        elif isinstance(node, ast.NamedExpr):
            plain[id(node.target)] = node.value
    for stored in ast.walk(tree):
        if isinstance(stored, ast.Name | ast.Attribute | ast.Subscript) and isinstance(stored.ctx, ast.Store):
            if id(stored) not in declared:
                yield stored, plain.get(id(stored))
        elif isinstance(stored, ast.alias):
            name = stored.asname or stored.name.split(".")[0]
            yield ast.Name(name, ast.Store(), lineno=stored.lineno, col_offset=stored.col_offset), None


def _bound_name(node: ast.expr) -> object:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    return _literal(node.slice) if isinstance(node, ast.Subscript) else None


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Every call in a tree."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def callee(function: ast.expr) -> str:
    """The dotted name of what is called, as far as it is one."""
    if isinstance(function, ast.Attribute):
        inner = callee(function.value)
        return f"{inner}.{function.attr}" if inner else function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _keywords(call: ast.Call, tree: ast.Module) -> tuple[dict[str, ast.expr], bool]:
    """A call's keywords by name, those of a table behind ``**`` included; and whether that is all of them."""
    options: dict[str, ast.expr] = {}
    whole = True
    for keyword in call.keywords:
        if keyword.arg is not None:
            options[keyword.arg] = keyword.value
            continue
        table = _table(keyword.value, tree)
        whole = whole and table is not None
        for key, value in zip(table.keys, table.values, strict=True) if table else ():
            if isinstance(key, ast.Constant):
                options[str(key.value)] = value
            else:
                whole = False
    return options, whole


def _table(value: ast.expr, tree: ast.Module) -> ast.Dict | None:
    """A dict that is written out, or the one that a name is bound to at one place and never changed by key."""
    if isinstance(value, ast.Dict):
        return value
    if not isinstance(value, ast.Name):
        return None
    bound = [stored for node, stored in _bindings(tree) if isinstance(node, ast.Name) and node.id == value.id]
    changed = any(
        isinstance(node, ast.Subscript | ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == value.id
        for node in ast.walk(tree)
    )
    if len(bound) == 1 and isinstance(bound[0], ast.Dict) and not changed:
        return bound[0]
    return None


def _loads_a_model(call: ast.Call) -> bool:
    *owner, method = callee(call.func).split(".")
    return method == "from_pretrained" and bool(owner) and _MODEL_CLASS.fullmatch(owner[-1]) is not None
