"""Writers of a GGUF in the package's scripts: what would make the artifact, told from what only speaks of it. Pure.

Known are the writer of the ``gguf`` package, the methods of Unsloth and AutoRound, llama.cpp's converters and its
quantizer when they are run or imported, and a module that packs the format's magic itself.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from harness.static import flow, launchers, script
from harness.static.script import PythonScript
from harness.static.sources import SHELL, Sources

_CALLS: Final = frozenset({"GGUFWriter", "save_pretrained_gguf", "push_to_hub_gguf", "llama_model_quantize"})
_TOOL: Final = re.compile(
    r"convert[-_]hf[-_]to[-_]gguf|convert[-_]lora[-_]to[-_]gguf|convert_llama_ggml_to_gguf|export[-_]gguf"
    r"|llama-quantize|llama-export-lora|llama\.cpp/(?:build/bin/)?(?:quantize|convert(?:[-_]hf)?\.py)|(?:^|/)quantize(?:\s|$)"
)
"""Program of llama.cpp, or an option of another one, that writes a GGUF; as a word of a command or inside of it."""

_TOLD: Final = re.compile(r"convert[\w ]*[-_ ]to[-_ ]gguf|llama-quantize|llama\.cpp", re.IGNORECASE)
"""Words of a text that tells a reader how to make a GGUF."""

_MODULE: Final = re.compile(r"(?:.*\.)?convert_(?:hf|lora)_to_gguf(?:\..*)?")
_RUNNERS: Final = re.compile(
    r"(?:run|Popen|call|check_call|check_output|getoutput|getstatusoutput|system|popen|exec\w*|spawn\w*|run_path|run_module"
    r"|shell|sh|bash|execute|run_(?:command|cmd|shell|process)|_?run_\w*)"
)
_SPEAKS: Final = re.compile(
    r"print|write|info|debug|warning|error|log|say|echo|secho|rule|panel|Markdown", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Writers:
    """Places that write a GGUF, and places that only print how it is done; each as ``file:line: what``."""

    found: tuple[str, ...]
    only_told: tuple[str, ...]


def find(sources: Sources, entry: str) -> Writers:
    """Writers in the entry script, in what it imports, and in the shell scripts that those run."""
    scripts = sources.reachable(entry)
    reached = _Reached(scripts)
    found = [
        f"{name}:{node.lineno}: {what}"
        for name, code in scripts.items()
        for node, what in _in_python(code)
        if reached.holds(node, code)
    ]
    told = [f"{name}:{line}: {what}" for name, code in scripts.items() for line, what in _told(code)]
    spoken = "\n".join(text for code in scripts.values() for text in code.strings)
    for name, text in sources.texts.items():
        if any(name.endswith(suffix) for suffix in SHELL) and name.rpartition("/")[2] in spoken:
            found += [f"{name}:{line}: {what}" for line, what in _in_shell(text)]
    return Writers(tuple(dict.fromkeys(found)), tuple(dict.fromkeys(told)))


class _Reached:
    """Functions of the scripts that something uses, as far as names tell; what only stands there makes nothing."""

    def __init__(self, scripts: Mapping[str, PythonScript]) -> None:
        self._users: dict[str, list[tuple[ast.expr, PythonScript]]] = {}
        for code in scripts.values():
            for use in code.uses:
                self._users.setdefault(_name(use), []).append((use, code))

    def holds(self, node: ast.expr | ast.stmt, code: PythonScript, seen: frozenset[str] = frozenset()) -> bool:
        """True when a node stands at the top of a script, or in a function that is reached from there."""
        around = flow.scope(node, code)
        if around is None or around.decorator_list or around.name.startswith(("__", "on_")):
            return True
        users = [] if around.name in seen else self._users.get(around.name, [])
        return any(self.holds(user, its, seen | {around.name}) for user, its in users)


def _in_python(code: PythonScript) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    for node in code.imports:
        names = [alias.name for alias in node.names] + ([str(node.module)] if isinstance(node, ast.ImportFrom) else [])
        yield from ((node, f"imports {name}") for name in names if _MODULE.fullmatch(name))
    packs = [call for call in code.calls if script.callee(call.func).rpartition(".")[2] in {"pack", "to_bytes"}]
    if "GGUF" in code.strings and packs:
        yield packs[0], "packs a GGUF itself"
    values = _values(code)
    for call in code.calls:
        callee = script.callee(call.func)
        last = callee.rpartition(".")[2] or (call.func.attr if isinstance(call.func, ast.Attribute) else "")
        if last in _CALLS:
            yield call, f"calls {callee or last}"
        elif any(keyword.arg == "format" and _format_of(keyword.value) for keyword in call.keywords):
            yield call, f"{callee or last} in the format gguf"
        elif _RUNNERS.fullmatch(last) and (tool := _tool_in(call, values, _TOOL)):
            yield call, f"runs {tool}"


def _told(code: PythonScript) -> Iterator[tuple[int, str]]:
    """Calls that print a converter's name, and nothing more."""
    values = _values(code)
    for call in code.calls:
        callee = script.callee(call.func)
        if _SPEAKS.fullmatch(callee.rpartition(".")[2]) and (tool := _tool_in(call, values, _TOLD)):
            yield call.lineno, f"{callee} only names {tool}"


def _in_shell(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        for command in launchers.commands(line):
            words = [word for word in command if _TOOL.search(word)]
            if words and not launchers.speaks(command):
                yield number, f"runs {words[0]}"


def _values(code: PythonScript) -> Mapping[str, list[ast.expr]]:
    """Values that are stored under each name, at any place."""
    values: dict[str, list[ast.expr]] = {}
    for store in code.stores:
        if store.value is not None and isinstance(store.target, ast.Name | ast.Attribute):
            values.setdefault(_name(store.target), []).append(store.value)
    return values


def _name(node: ast.Name | ast.Attribute) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr


def _tool_in(call: ast.Call, values: Mapping[str, list[ast.expr]], named: re.Pattern[str]) -> str | None:
    """The converter that a call's arguments name, in themselves or by names that stand for a command."""
    pending = [*call.args, *(keyword.value for keyword in call.keywords)]
    seen: set[str] = set()
    while pending:
        for node in script.nodes(pending.pop()):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                if (match := named.search(node.value)) is not None:
                    return match.group().strip()
            elif isinstance(node, ast.Name | ast.Attribute) and (name := _name(node)) not in seen:
                seen.add(name)
                pending += values.get(name, [])
    return None


def _format_of(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value.startswith("gguf")
