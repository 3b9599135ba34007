"""Programs that run what they are given: shells, eval, PowerShell, cmd, Start-Process, aliases, Python. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

from harness.shellguard import box, keptkey, launchers, pycode, rules, webapi
from harness.shellguard.reading import HOLE, ProgramCall, Shell, program
from harness.shellguard.seen import NestedCall, NestedScript, Place, Seen, Violation, said
from harness.shellguard.topics import mentions

SHELLS = frozenset({"sh", "bash", "zsh", "dash", "ksh", "ash", "fish", "busybox", "at", "batch", "crontab"})
POWERSHELLS = frozenset({"powershell", "pwsh"})
PYTHON = re.compile(r"(python|pypy)(w?|[\d.]+)|py")


def shell(call: ProgramCall, place: Place) -> Iterator[Seen]:
    """``sh -c LINE``, a line on standard input, or a script that cannot be seen."""
    args = call.words[1:]
    for i, word in enumerate(args):
        if re.fullmatch(r"-[a-zA-Z]*c[a-zA-Z]*", word):
            script = next((w for w in args[i + 1 :] if not w.startswith(("-", "+"))), None)
            if script is not None:
                yield from _text(script, place, background=call.background)
            return
    if call.stdin is not None:
        yield NestedScript(call.stdin, background=call.background)
    elif call.piped or any(HOLE in word for word in args):
        yield from _unseen(place, said(call))
    at = next((i for i, word in enumerate(args) if not word.startswith("-")), None)
    if at is not None:
        yield NestedCall(args[at:])  # ``sh tool.sh vastai destroy ...``, ``busybox sh ...``


def _text(script: str, place: Place, *, background: bool) -> Iterator[Seen]:
    """A script given as one word; one that is nothing but a hole is held when the line names a guarded act."""
    if script.strip(HOLE + " ;") == "" and HOLE in script:
        yield from _unseen(place, place.line)
    yield NestedScript(script, background=background)


def evaluate(call: ProgramCall, place: Place) -> Iterator[Seen]:
    """``eval``: its words joined with blanks are the line."""
    yield from _text(" ".join(call.words[1:]), place, background=call.background)


def expression(call: ProgramCall, place: Place) -> Iterator[Seen]:
    """``Invoke-Expression``, from its argument or from the pipe."""
    text = " ".join(word for word in call.words[1:] if word.lower() != "-command") or call.stdin
    if text is not None:
        if text.strip(HOLE) == "":
            yield from _unseen(place, place.line)
        yield NestedScript(text, Shell.POWERSHELL)
    elif call.piped:
        yield from _unseen(place, place.line)


def powershell(call: ProgramCall, place: Place) -> Iterator[Seen]:
    """``pwsh -Command``, ``-EncodedCommand``, or a script on standard input."""
    args = call.words[1:]
    for i, word in enumerate(args):
        option = word.lower().replace("/", "-", 1)
        if option == "-ec" or (option.startswith("-e") and "-encodedcommand".startswith(option)):
            yield from _encoded("".join(args[i + 1 : i + 2]))
            return
        if option.startswith("-c") and "-command".startswith(option):
            yield NestedScript(" ".join(args[i + 1 :]), Shell.POWERSHELL, background=call.background)
            return
        if option.startswith("-f") and "-file".startswith(option):
            return
    plain = [word for word in args if not word.startswith("-")]
    text = call.stdin if call.stdin is not None else " ".join(plain)
    yield NestedScript(text, Shell.POWERSHELL, background=call.background)
    if call.piped and call.stdin is None:
        yield from _unseen(place, said(call))


def _encoded(text: str) -> Iterator[Seen]:
    try:
        yield NestedScript(base64.b64decode(text, validate=True).decode("utf-16-le"), Shell.POWERSHELL)
    except ValueError:
        yield Violation(rules.UNREADABLE, text)


def cmd(call: ProgramCall, _place: Place) -> Iterator[Seen]:
    """``cmd /c LINE``."""
    args = list(call.words[1:])
    while args and args[0].startswith("/") and args[0].lower()[:2] not in {"/c", "/k"}:
        args.pop(0)
    if args:
        glued = args[0][2:]
        yield NestedScript(" ".join(([glued] if glued else []) + args[1:]), Shell.CMD, background=call.background)


def start(call: ProgramCall, _place: Place) -> Iterator[Seen]:
    """``Start-Process`` and cmd's ``start``: the program and its argument list, glued back together."""
    waits = {"-wait", "/wait"} & {word.lower() for word in call.words}
    named = {"-filepath", "-argumentlist", "-args", "-path"}
    flags = {"-wait", "-nonewwindow", "-passthru", "/wait", "/b", "/min", "/max"}
    plain = [w for w in call.words[1:] if w.lower() not in named | flags and w]
    words = tuple(part for w in plain for part in (w.split() if " " in w and w != plain[0] else (w,)))
    yield NestedCall(words, background=not waits)
    if len(words) > 1 and program(call.words[0]) == "start":
        yield NestedCall(words[1:], background=not waits)  # start "title" program ...


def alias(call: ProgramCall, _place: Place) -> Iterator[Seen]:
    """``alias NAME=LINE`` and ``Set-Alias``: the line, with whatever the alias will be given."""
    for word in call.words[1:]:
        value = word.split("=", 1)[-1]
        if value:
            yield NestedCall((*value.split(), HOLE))


def python(call: ProgramCall, place: Place) -> Iterator[Seen]:
    """``python -c CODE``, ``-m MODULE``, a script with arguments, or code on standard input."""
    args = call.words[1:]
    for i, word in enumerate(args):
        if re.fullmatch(r"-[a-zA-Z]*c", word):
            yield from _python(args[i + 1] if i + 1 < len(args) else "", place)
            return
        if re.fullmatch(r"-[a-zA-Z]*m", word) and i + 1 < len(args):
            yield from _module(args[i + 1], args[i + 2 :], call)
            return
        if not word.startswith("-"):
            yield NestedCall(args[i:], call.background)  # a script: ``python vast.py destroy ...``
            return
    if call.stdin is not None:
        yield from _python(call.stdin, place)
    elif call.piped:
        yield from _unseen(place, said(call))


def _python(code: str, place: Place) -> Iterator[Seen]:
    yield from pycode.look(code)
    yield from box.python(code, place)
    yield from keptkey.python(code, place)


def _unseen(place: Place, told: str) -> Iterator[Violation]:
    """Something that a program is given unseen: held when the line names a guarded act."""
    if mentions(place.line):
        yield Violation(rules.UNREADABLE, told)


# Names and signs by which a program in another language starts one, or has text run.
_RUNS = re.compile(
    r"\b(system|exec\w*|spawn\w*|popen\w*|qx|eval|fork|sh|bash|child_process|process|proc_open|passthru|command|run"
    r"|getline|shell\w*|invoke\w*|start|%x)\b|`|\|",
    re.IGNORECASE,
)


_SUM = re.compile(r"""['"]\s*[+.]\s*['"]""")


def code(call: ProgramCall) -> Iterator[Seen]:
    """Code in a language that is not parsed here: what it does by the API, or names beside a way to run it."""
    text = _SUM.sub("", " ".join((*call.words[1:], call.stdin or "")))
    acts = [*webapi.acts(text)]
    yield from acts
    if not acts and mentions(text) and _RUNS.search(text):
        yield Violation(rules.UNREADABLE, text)


def _module(module: str, rest: tuple[str, ...], call: ProgramCall) -> Iterator[Seen]:
    if module == "vastai" or module.startswith("vastai."):
        yield NestedCall(("vastai", *rest))
    elif module in launchers.MODULES or module.startswith("deepspeed."):
        yield Violation(rules.LAUNCHER, said(call))
    else:
        yield NestedCall(
            (module.rsplit(".", 1)[-1] if module.startswith("accelerate") else module, *rest), call.background
        )
