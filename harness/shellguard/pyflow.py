"""Follows the texts of a Python program to where they go, as far as its own lines tell. Pure.

Nothing is run. A text ends in a *mention* (printed, compared, searched for, replaced, written, said in an error) or is
*handed on*: to a call that is not known to be harmless, or to a place that is not followed.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from harness.shellguard.reading import HOLE, names

_TEXT_MODULES = names(
    """
    argparse ast base64 codecs collections configparser copy csv dataclasses datetime difflib enum fileinput
    functools glob hashlib html io itertools json logging math operator pathlib pprint random re string sys tempfile
    textwrap time tokenize tomllib typing unicodedata yaml zipfile __future__
    """
)
"""Modules that start nothing: a program that imports no other, and opens no back door, only handles texts."""

_DOORS = names(
    """
    exec eval compile __import__ getattr globals locals vars modules os subprocess system popen breakpoint
    import_module builtins __builtins__ __dict__ __class__ __subclasses__ __getattribute__ __loader__ __globals__
    """
)

_HARMLESS = names(
    """
    print pprint write writelines write_text write_bytes replace sub subn search match fullmatch findall finditer count
    find rfind index rindex startswith endswith removeprefix removesuffix info warning error debug critical exception
    log warn dump dumps len isinstance exit fail skip xfail add_argument ArgumentParser post send_message sendmail say
    get pop hexdigest sha256 input Path open Counter assertIn assertEqual assertNotIn
    """
)
"""Calls that do nothing with a text but print, write, send, keep or search for it."""

_PASSED = names(
    """
    str list tuple set sorted reversed enumerate zip iter dict format join split rsplit splitlines which dedent encode
    decode strip lstrip rstrip lower upper title casefold quote fspath fsencode expandvars expanduser partition
    rpartition copy
    """
)
"""Calls whose result is the text again, or its words."""

_MOST_STEPS = 100_000
"""Steps for which one program's texts are followed, about half a second."""

_ADDED = names("append extend insert add")
_WORDS = str | tuple[str, ...]


def called(call: ast.Call) -> str:
    """The last name of what a call calls; empty when it has none."""
    match call.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


class Flow:
    """The texts of one program. Assignments to one name are taken together, in their order.

    Following raises RecursionError where it has no end in sight, as a name that is given in terms of itself has.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.steps = 0
        self.parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        self.given: dict[str, list[ast.expr]] = defaultdict(list)
        self.used: dict[str, list[ast.Name]] = defaultdict(list)
        for node in ast.walk(tree):
            self._note(node)
        self.texts = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        self.only_text = all(self._handles_text(node) for node in ast.walk(tree))

    def _note(self, node: ast.AST) -> None:
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self._assigned(target, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.AugAssign(target=target, value=value):
                self._assigned(target, value)
            case ast.NamedExpr(target=target, value=value) | ast.For(target=target, iter=value):
                self._assigned(target, value)
            case ast.comprehension(target=target, iter=value):
                self._assigned(target, value)
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method), args=args) if method in _ADDED:
                self.given[name].extend(args)
            case ast.Name(id=name, ctx=ast.Load()):
                self.used[name].append(node)
            case _:
                pass

    def _assigned(self, target: ast.expr, value: ast.expr) -> None:
        for node in ast.walk(target):
            if isinstance(node, ast.Name):
                self.given[node.id].append(value)

    @staticmethod
    def _handles_text(node: ast.AST) -> bool:
        match node:
            case ast.Import(names=found):
                return all(one.name.split(".")[0] in _TEXT_MODULES for one in found)
            case ast.ImportFrom(module=module, names=found):
                return (module or "").split(".")[0] in _TEXT_MODULES and not _DOORS & {one.name for one in found}
            case ast.Call(func=ast.Attribute(value=ast.Name(id="re"), attr="compile")):
                return True
            case ast.Name(id=name) | ast.Attribute(attr=name):
                return name not in _DOORS
        return True

    def harmless(self, call: ast.Call) -> bool:
        """True for a call that only prints, writes, sends or searches for what it is given."""
        name = called(call)
        if name == "compile":
            return isinstance(call.func, ast.Attribute)
        if name.endswith(("Error", "Exception", "Warning")) or name == "SystemExit":
            return True
        into = [call.func, *(word.value for word in call.keywords if word.arg == "file")]
        return name in _HARMLESS and not any("stdin" in ast.unparse(one) for one in into)

    def handed_on(self) -> tuple[str, ...]:
        """Every text that is not a mere mention, in the order of the program."""
        ordered = sorted(self.texts, key=lambda node: (node.lineno, node.col_offset))
        return tuple(str(node.value) for node in ordered if not self._is_mention(node, frozenset()))

    def arguments(self) -> tuple[str, ...]:
        """Texts put together for calls which may run something: ``"destroy_" + "instance"``."""
        calls = [node for node in self.parents if isinstance(node, ast.Call) and not self.harmless(node)]
        found = (self.value(one) for call in calls for one in call.args if isinstance(one, ast.BinOp | ast.Name))
        return tuple(one for one in found if isinstance(one, str))

    def step(self) -> None:
        """Count one step; raises RecursionError when they are too many."""
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise RecursionError("too much to follow")

    def _is_mention(self, node: ast.AST, seen: frozenset[str]) -> bool:  # noqa: PLR0911 - one case a kind of node
        self.step()
        above = self.parents.get(node)
        match above:
            case None | ast.Expr() | ast.Compare() | ast.Assert() | ast.Raise():
                return True
            case ast.Subscript(slice=index) if index is node:
                return True
            case ast.Call(func=func) if func is not node:
                return self._argument_is_mention(above, seen)
            case ast.keyword():
                call = self.parents[above]
                return isinstance(call, ast.Call) and self._argument_is_mention(call, seen)
            case ast.Attribute(attr=method):
                return self._receiver_is_mention(above, method, seen)
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign() | ast.NamedExpr() | ast.For() | ast.comprehension():
                return self._variables_are_mentions(above, seen)
            case ast.stmt() | ast.Lambda() | ast.arguments() | ast.ClassDef():
                return isinstance(above, ast.If | ast.While)
            case _:  # a part of a larger expression
                return self._is_mention(above, seen)

    def _argument_is_mention(self, call: ast.Call, seen: frozenset[str]) -> bool:
        name = called(call)
        if self.harmless(call):
            return True
        if name in _ADDED and isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
            return self._uses_are_mentions(call.func.value.id, seen)
        return name in _PASSED and self._is_mention(call, seen)

    def _receiver_is_mention(self, attribute: ast.Attribute, method: str, seen: frozenset[str]) -> bool:
        call = self.parents.get(attribute)
        if not isinstance(call, ast.Call) or call.func is not attribute:
            return False
        if method in _PASSED or method in {"replace", "removeprefix", "removesuffix"}:
            return self._is_mention(call, seen)
        return method in _HARMLESS or method in _ADDED

    def _variables_are_mentions(self, above: ast.AST, seen: frozenset[str]) -> bool:
        targets = above.targets if isinstance(above, ast.Assign) else [above.target]  # type: ignore[attr-defined]
        names = [node for target in targets for node in ast.walk(target) if isinstance(node, ast.expr)]
        if not all(isinstance(node, ast.Name | ast.Tuple | ast.List | ast.Starred) for node in names):
            return False  # an attribute, or a place in a container
        walrus = isinstance(above, ast.NamedExpr) and not self._is_mention(above, seen)
        return not walrus and all(self._uses_are_mentions(n.id, seen) for n in names if isinstance(n, ast.Name))

    def _uses_are_mentions(self, name: str, seen: frozenset[str]) -> bool:
        if name in seen:
            return True
        return all(self._is_mention(use, seen | {name}) for use in self.used[name])

    def value(self, node: ast.expr, depth: int = 0) -> _WORDS:  # noqa: C901, PLR0911 - one case a kind of expression
        """A text, or the words of a list; HOLE stands for what is known only when the program runs."""
        self.step()
        if depth > 20:
            return HOLE
        deeper = depth + 1
        match node:
            case ast.Constant(value=str(text)):
                return text
            case ast.JoinedStr(values=parts):
                return "".join(str(p.value) if isinstance(p, ast.Constant) else self._hole(p, deeper) for p in parts)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return _joined([self.value(left, deeper), self.value(right, deeper)])
            case ast.BinOp(left=left, op=ast.Mod()):
                return self.value(left, deeper)
            case ast.List() | ast.Tuple():
                return self.words(node, deeper)
            case ast.Name(id=name) if name in self.given:
                return _joined([self.value(one, deeper) for one in self.given[name]])
            case ast.Attribute(attr="executable"):
                return "python"
            case ast.Call(func=ast.Attribute(value=ast.expr() as text, attr="format")):
                return self.value(text, deeper)
            case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(glue)), attr="join"), args=[items]):
                found = self.value(items, deeper)
                return glue.join(found) if isinstance(found, tuple) else HOLE
            case ast.Call(func=ast.Attribute(value=ast.expr() as text, attr="split"), args=args):
                found = self.value(args[0] if args and ast.unparse(text) == "shlex" else text, deeper)
                return tuple(found.split()) if isinstance(found, str) else found
            case ast.Call(func=func, args=[one, *_]) if called(node) in _PASSED and func is not None:
                return self.value(one, deeper)
        return HOLE

    def _hole(self, part: ast.expr, depth: int) -> str:
        found = self.value(part.value, depth) if isinstance(part, ast.FormattedValue) else HOLE
        return found if isinstance(found, str) else HOLE

    def words(self, node: ast.List | ast.Tuple, depth: int = 0) -> tuple[str, ...]:
        """The words of a list that is written out, starred ones taken in."""
        return tuple(word for item in node.elts for word in self._item(item, depth))

    def _item(self, item: ast.expr, depth: int) -> Iterator[str]:
        found = self.value(item.value if isinstance(item, ast.Starred) else item, depth)
        yield from (found,) if isinstance(found, str) else found


def _joined(values: list[_WORDS]) -> _WORDS:
    """One text of texts; the words of all, where a list is among them."""
    if all(isinstance(one, str) for one in values):
        return "".join(one for one in values if isinstance(one, str))
    return tuple(word for one in values for word in ((one,) if isinstance(one, str) else one))
