"""Launchers and sharding engines that the operating rules forbid, found in commands, scripts, configurations. Pure.

``device_map="auto"`` splits the model of one process; a launcher starts several. LoRA under
torchrun, accelerate launch, DeepSpeed or FSDP cost the first user his first runs. Only what
would *run* is a finding: comments, docstrings and messages may name the forbidden.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Final

from harness.static import script
from harness.static.script import PythonScript
from harness.static.sources import CONFIGURATION, Sources, is_requirements

_PROGRAMS: Final = frozenset(
    {"torchrun", "accelerate-launch", "deepspeed", "horovodrun", "mpirun", "mpiexec", "colossalai"}
)
_MODULES: Final = re.compile(
    r"torch\.distributed\.(run|launch|elastic[\w.]*)|accelerate(\.commands[\w.]*)?|deepspeed(\.launcher[\w.]*)?"
)
_WRAPPERS: Final = frozenset({"sudo", "nohup", "exec", "time", "env", "command", "stdbuf", "setsid", "nice"})
_CARRIERS: Final = frozenset({"sh", "bash", "zsh", "dash", "tmux", "screen", "xargs", "timeout"})
_SPEAKING: Final = frozenset({"echo", "printf", "grep", "egrep", "fgrep", "#"})
_SEPARATORS: Final = frozenset({";", "&&", "||", "|", "&", "(", ")", "{", "}", "do", "then", "else"})

_PACKAGES: Final = frozenset({"deepspeed", "horovod", "fairscale", "colossalai"})
_IMPORTS: Final = re.compile(
    r"(deepspeed|horovod|fairscale|colossalai)(\..*)?|torch\.distributed\.(run|launch|fsdp|elastic)(\..*)?"
    r"|torch\.nn\.parallel\.DistributedDataParallel|accelerate\.(notebook_launcher|debug_launcher|launchers)(\..*)?"
    r"|torch\.multiprocessing\.spawn(\..*)?"
)
_CALLS: Final = frozenset(
    {"init_process_group", "notebook_launcher", "DistributedDataParallel", "FullyShardedDataParallel", "fully_shard"}
)
_OPTIONS: Final = frozenset({"fsdp", "fsdp_config", "deepspeed", "fsdp_plugin", "deepspeed_plugin"})
_RUNS: Final = re.compile(
    r"(subprocess\.)?(run|Popen|call|check_call|check_output)|os\.(system|popen|exec\w+|spawn\w+)"
)
_ENVIRONMENT: Final = re.compile(r"ACCELERATE_USE_(DEEPSPEED|FSDP)|FSDP_\w+|DEEPSPEED_\w+|ACCELERATE_DEEPSPEED_\w+")

_KEYS: Final = (
    "distributed_type|deepspeed_config(?:_file)?|fsdp_config|zero_optimization"
    "|deepspeed|fsdp|fsdp_sharding_strategy|fsdp_version"
)
_KEY: Final = re.compile(
    rf"""^[ \t]*(?:-[ \t]+)?(?P<bare>{_KEYS})[ \t]*[:=][ \t]*(?P<bare_value>.*)$"""
    rf"""|["'](?P<quoted>{_KEYS})["'][ \t]*[:=][ \t]*(?P<quoted_value>\{{\s*\}}|[^,}}\n]*)""",
    re.MULTILINE,
)
"""A key of YAML or TOML at the start of a line, or a quoted one anywhere, as in JSON on one line."""

_OFF: Final = re.compile(
    r"""["']?(no|none|null|false|~|\{\s*\}|\[\s*\]|)["']?[ \t]*[,}\]]*[ \t]*(#.*)?""", re.IGNORECASE
)


def find(sources: Sources, commands: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Every forbidden launcher, as ``where: what``; ``commands`` are the job's own, by the field that states them."""
    found = [f"{field}: {what}" for field, argv in commands.items() for what in in_command(argv)]
    for name, code in sources.scripts.items():
        found += [f"{name}:{line}: {what}" for line, what in in_python(code)]
    for name, text in sources.texts.items():
        configures = PurePosixPath(name).suffix in CONFIGURATION
        read = in_requirements if is_requirements(name) else in_configuration if configures else in_shell
        found += [f"{name}:{line}: {what}" for line, what in read(text)]
    return tuple(dict.fromkeys(found))


def in_command(argv: Sequence[str]) -> Iterator[str]:
    """Launchers that a command, given as words, would start; a word that is a script (``sh -c``) is read too."""
    words = [word for word in argv if word not in _WRAPPERS and not re.fullmatch(r"[A-Za-z_]\w*=.*", word)]
    if not words or speaks(words):
        return
    program = _base(words[0])
    if program in _PROGRAMS:
        yield program
    elif program == "accelerate" and "launch" in words[1:]:
        yield "accelerate launch"
    elif program.startswith("python") or program == "py":
        modules = [module for flag, module in pairwise(words) if flag == "-m"]
        launching = [module for module in modules if _MODULES.fullmatch(module)]
        yield from (f"python -m {module}" for module in launching if module != "accelerate" or "launch" in words)
        at = next((at for at, word in enumerate(words) if at and not word.startswith("-")), len(words))
        if not modules and words[at : at + 1] and not words[at].endswith(".py"):
            yield from in_command(words[at:])
    elif program in _CARRIERS:
        yield from (what for word in words[1:] if " " in word for _, what in in_shell(word))
        carried = next((at for at, word in enumerate(words) if at and _launches(word)), len(words))
        yield from in_command(words[carried:])


def in_shell(text: str) -> Iterator[tuple[int, str]]:
    """Launchers in a shell script, by line; a comment or a quoted message is none."""
    joined = re.sub(r"\\\n", "  ", text)
    for number, line in enumerate(joined.splitlines(), start=1):
        for command in commands(line):
            yield from ((number, what) for what in in_command(command))
            for word in command:
                name, _, value = word.partition("=")
                if _ENVIRONMENT.fullmatch(name) and value and not _OFF.fullmatch(value) and value != "0":
                    yield number, f"sets {name}"


def in_python(code: PythonScript) -> Iterator[tuple[int, str]]:
    """Launchers that a Python module imports, calls, asks for by option, or starts as a program."""
    for node in code.imports:
        spelt = [item.name for item in node.names]
        if isinstance(node, ast.ImportFrom):
            spelt = [] if node.level else [str(node.module), *(f"{node.module}.{name}" for name in spelt)]
        forbidden = [name for name in spelt if _IMPORTS.fullmatch(name)]
        yield from ((node.lineno, f"imports {name}") for name in forbidden[-1:])
    for call in code.calls:
        yield from ((call.lineno, what) for what in _in_call(call))
    for table in code.tables:
        options = [(key.value, value) for key, value in _items(table) if key.value in _OPTIONS and _is_on(value)]
        yield from ((value.lineno, f"{key}={ast.unparse(value)[:60]}") for key, value in options)
    for store in code.stores:
        match store.target:
            case ast.Subscript(slice=ast.Constant(value=str(name))) if _ENVIRONMENT.fullmatch(name):
                if store.value is None or _is_on(store.value):
                    yield store.target.lineno, f"sets {name}"
            case _:
                pass


def in_requirements(text: str) -> Iterator[tuple[int, str]]:
    """Packages that are launchers, by line."""
    for number, line in enumerate(text.splitlines(), start=1):
        match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", line)
        if match and re.sub(r"[-_.]+", "-", match.group(1)).lower() in _PACKAGES:
            yield number, f"requires {match.group(1)}"


def in_configuration(text: str) -> Iterator[tuple[int, str]]:
    """Keys of accelerate, DeepSpeed and FSDP configurations that are switched on, by line."""
    for match in _KEY.finditer(text):
        kind = "bare" if match["bare"] else "quoted"
        value = match[f"{kind}_value"].strip()
        nested = kind == "bare" and not value and _has_block(text, match.end())
        if nested or not _OFF.fullmatch(value):
            line = text.count("\n", 0, match.start(kind)) + 1
            yield line, f"{match[kind]}: {value[:60] or 'a block'}"


def _has_block(text: str, end: int) -> bool:
    """True when a YAML key without a value is followed by deeper lines."""
    following = text[end:].lstrip("\n").split("\n", 1)[0]
    return following[:1] in {" ", "\t"} and bool(following.strip())


def speaks(words: Sequence[str]) -> bool:
    """True for a command that only prints, or looks for, what its words say."""
    return bool(words) and words[0] in _SPEAKING


def commands(line: str) -> Iterator[list[str]]:
    """The commands of a line of shell, each as its words."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    try:
        words = list(lexer)
    except ValueError:  # an open quote: a message over several lines, or a dialect other than sh
        words = line.split("#", 1)[0].split()
    command: list[str] = []
    for word in words:
        if word in _SEPARATORS:
            yield command
            command = []
        else:
            command.append(word)
    yield command


def _launches(word: str) -> bool:
    return _base(word) in _PROGRAMS | {"accelerate"} or _base(word).startswith("python")


def _base(word: str) -> str:
    return re.split(r"[/\\]", word)[-1].lower().removesuffix(".exe")


def _in_call(call: ast.Call) -> Iterator[str]:
    callee = script.callee(call.func)
    if callee.rpartition(".")[2] in _CALLS:
        yield f"calls {callee}"
    for keyword in call.keywords:
        if keyword.arg in _OPTIONS and _is_on(keyword.value):
            yield f"{keyword.arg}={ast.unparse(keyword.value)[:60]}"
    if _RUNS.fullmatch(callee) and call.args:
        command = call.args[0]
        if isinstance(command, ast.List | ast.Tuple):
            yield from in_command([_word(word) for word in command.elts])
        elif isinstance(command, ast.Constant) and isinstance(command.value, str):
            words = [str(word.value) for word in call.args if isinstance(word, ast.Constant)]
            yield from in_command(words) if len(words) > 1 else (what for _, what in in_shell(command.value))
        elif isinstance(command, ast.JoinedStr):
            said = "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in command.values)
            yield from (what for _, what in in_shell(said))


def _word(value: ast.expr) -> str:
    if script.callee(value) == "sys.executable":
        return "python"
    return str(value.value) if isinstance(value, ast.Constant) else "?"


def _is_on(value: ast.expr) -> bool:
    """True when an option's value switches it on; one that is computed is taken as on."""
    try:
        return bool(ast.literal_eval(value)) and ast.literal_eval(value) not in {"0", "false", "no", "NO"}
    except (ValueError, TypeError, SyntaxError):
        return True


def _items(table: ast.Dict) -> Iterator[tuple[ast.Constant, ast.expr]]:
    pairs = zip(table.keys, table.values, strict=True)
    return ((key, value) for key, value in pairs if isinstance(key, ast.Constant))
