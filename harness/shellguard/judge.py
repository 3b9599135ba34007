"""Decides about a command line: allow, ask or deny, with the rules it breaks. Pure.

A line is read as its shell reads it; every call in it is looked at, and whatever a call
carries (``sh -c``, ``ssh``, ``eval``, Python's ``-c`` ...) is read in turn. A program that the
guard does not know is searched for a guarded call among its arguments, as ``sudo`` or ``timeout``
would start it. What cannot be read is held when it names a guarded act.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from harness.shellguard import box, carriers, keptkey, launchers, machines, provider, rules, vastcli, webapi
from harness.shellguard.programs import CARRIERS, DETACHED, INERT, INTERPRETERS, OPEN_ENDED, inert, run_by_name, wrapped
from harness.shellguard.reading import HOLE, MAX_TEXT, PRINTERS, ParsedLine, ProgramCall, Shell, printed, program
from harness.shellguard.rules import Decision
from harness.shellguard.seen import Look, NestedCall, NestedScript, Place, Seen, Violation, said
from harness.shellguard.topics import mentions, touches

_MAX_NESTING = 12
_NAMED = re.compile(r"(?:-D)?[-\w.:]+=")
_OPTION = re.compile(r"(-(?!-$)|/\w+$).*", re.DOTALL)
_WRITERS = frozenset({"tee", "set-content", "add-content", "out-file"})
TELL = PRINTERS | {"harness"}
"""Programs behind which every word is their own."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The decision about one line, and every violation that it rests on."""

    violations: tuple[Violation, ...] = ()

    @property
    def decision(self) -> Decision:
        """The worst of the violations' decisions; ALLOW without any."""
        decisions = (violation.rule.decision for violation in self.violations)
        return max(decisions, key=list(Decision).index, default=Decision.ALLOW)

    @property
    def leading(self) -> Violation | None:
        """The violation to explain first."""
        return next((f for f in self.violations if f.rule.decision is self.decision), None)


def judge(text: str, shell: Shell = Shell.BASH, *, background: bool = False) -> Judgement:
    """Judge a line of a shell. ``background`` says that whoever runs it will not wait for it."""
    if not touches(text):
        return Judgement()
    place = Place(line=text, background=background)
    return _judgement(_script(NestedScript(text, shell), place, 0))


def judge_argv(words: tuple[str, ...]) -> Judgement:
    """Judge a program and its arguments, as they would be handed to the operating system."""
    line = " ".join(words)
    return _judgement(_call(ProgramCall(words), Place(line=line), 0))


def _judgement(found: Iterator[Violation]) -> Judgement:
    unique: dict[tuple[str, str], Violation] = {}
    for violation in found:
        unique.setdefault((violation.rule.id, violation.words), violation)
    return Judgement(tuple(unique.values()))


def _read(text: str, shell: Shell) -> ParsedLine:
    if len(text) > MAX_TEXT:
        return ParsedLine((), (f"it is longer than {MAX_TEXT} characters",))
    # The grammars are loaded only for a line that has something to do with a rule: a hook runs at every command.
    if shell is Shell.POWERSHELL:
        from harness.shellguard.powershell import read  # noqa: PLC0415  # see above
    elif shell is Shell.CMD:
        from harness.shellguard.cmdexe import read  # noqa: PLC0415  # see above
    else:
        from harness.shellguard.bash import read  # noqa: PLC0415  # see above
    return read(text)


def _script(script: NestedScript, place: Place, depth: int) -> Iterator[Violation]:
    if depth > _MAX_NESTING:
        if mentions(place.line):
            yield Violation(rules.UNREADABLE, place.line)
        return
    unknown = "%_%" if script.shell is Shell.CMD else "${_}"
    reading = _read(script.text.replace(HOLE, unknown), script.shell)
    place = replace(
        place,
        remote=place.remote or script.remote,
        background=place.background or script.background,
        prose=script.prose,
    )
    for call in reading.calls:
        yield from _call(call, place, depth)
        place = replace(place, written=(*place.written, *_writes(call)))
    speaks = any(call.words and program(call.words[0]) in vastcli.NAMES for call in reading.calls)
    if reading.doubts and (speaks or (mentions(script.text) and not script.prose)):
        yield Violation(rules.UNREADABLE, script.text)


def _resolve(seen: Iterator[Seen], place: Place, depth: int) -> Iterator[Violation]:
    for item in seen:
        if isinstance(item, Violation):
            yield item
        elif isinstance(item, NestedScript):
            yield from _script(item, place, depth + 1)
        elif depth < _MAX_NESTING:
            inner = replace(place, background=place.background or item.background, remote=place.remote or item.remote)
            yield from _call(ProgramCall(item.words, stdin=item.stdin), inner, depth + 1)
        elif mentions(place.line):
            yield Violation(rules.UNREADABLE, place.line)


def _call(call: ProgramCall, place: Place, depth: int) -> Iterator[Violation]:
    known = (call, place.remote, place.background, place.prose, place.written)
    if known in place.judged:  # many readings of a line lead to the same call
        return
    place.judged.add(known)
    yield from _resolve(launchers.flags(call), place, depth)
    yield from _resolve(box.meddle(call, place), place, depth)
    yield from _resolve(keptkey.look(call, place), place, depth)
    for value in run_by_name(call.env):
        yield from _script(NestedScript(value), place, depth + 1)
    if not call.words or inert(call):
        return
    yield from _resolve(_written(call, place), replace(place, written=()), depth)
    yield from _resolve(box.overwrite(call, place), place, depth)
    name = program(call.words[0])
    look = _look(name)
    if look is not None:
        yield from _resolve(look(call, place), place, depth)
        return
    if place.prose and name not in CARRIERS and HOLE not in name:
        return
    yield from _resolve(_carried(call, name, place), place, depth)


def _written(call: ProgramCall, place: Place) -> Iterator[Seen]:
    """A file that the line itself has written, and that is run: its text is read as what it is run as."""
    name = program(call.words[0])
    runs = _look(name) is not None or name in CARRIERS | INTERPRETERS
    run = {program(word) for word in ((*call.words, *call.files, f"{name}file") if runs else call.words[:1])}
    for file, text in place.written:
        if program(file) not in run:
            continue
        match file.rsplit(".", 1)[-1].lower():
            case "py":
                yield from carriers.python(ProgramCall(("python", "-c", text)), place)
            case "js" | "mjs" | "ts" | "rb" | "pl" | "php" | "lua":
                yield from carriers.code(ProgramCall((file, text)))
            case "ps1":
                yield NestedScript(text, Shell.POWERSHELL)
            case "bat" | "cmd":
                yield NestedScript(text, Shell.CMD)
            case _:
                yield NestedScript(text)


def _writes(call: ProgramCall) -> tuple[tuple[str, str], ...]:
    """Names of the files that a call may write, with the text that goes there."""
    if not call.words or not inert(call):
        return ()
    told = printed(call)
    text = " ".join(call.words[1:]) if told is None else told
    unknown = HOLE in (call.stdin or text) and (call.files or program(call.words[0]) in _WRITERS)
    if not touches(call.stdin or text) and not unknown:
        return ()  # nothing that breaks a rule when it is run
    files = dict.fromkeys(word for word in (*call.words[1:], *call.files) if not any(map(str.isspace, word)))
    return tuple((file, call.stdin or text) for file in files)


def _carried(call: ProgramCall, name: str, place: Place) -> Iterator[Seen]:
    """Calls that a program without a look of its own may start: one among its words, a line in one of them."""
    words = (*call.words, HOLE) if name in OPEN_ENDED else call.words
    background = call.background or (name in DETACHED and "-wait" not in {w.lower() for w in words})
    inner = wrapped(words)
    if inner is not None:
        if inner:
            yield NestedCall(inner, background, stdin=call.stdin)
        return
    if name in INTERPRETERS:
        yield from carriers.code(call)
    else:
        yield from webapi.acts(" ".join((*words, call.stdin or "")))
    if re.search(r"[(,]", name) and mentions(name):
        # ``system("...")``: another language's code, not a program's name; ``IFS=,`` makes words of the other
        yield Violation(rules.UNREADABLE, said(call))
    if call.stdin is not None and name in CARRIERS:
        yield NestedScript(call.stdin, prose=True)
    found = [*_among(words, name, background)]
    yield from found
    own = next((i for i, word in enumerate(words) if i and program(word) in TELL), len(words))
    if not any(isinstance(item, NestedCall) for item in found) and _may_be_meant(name, words[:own], place):
        yield Violation(rules.UNREADABLE, said(call))


def _among(words: tuple[str, ...], name: str, background: bool) -> Iterator[Seen]:
    """Programs and lines among the words of a program whose own options are not known."""
    own = name in INTERPRETERS  # the words with blanks are a program's own text, and no line
    for i, word in enumerate(words[1:], start=1):
        known = "" if _OPTION.fullmatch(word) or not word[-1:].isalnum() else program(word)
        look = _look(known)
        # Behind an option an argument may only be named like a program: ``tmux new -s batch``.
        certain = not _OPTION.fullmatch(words[i - 1])
        if look is not None:
            yield NestedCall(words[i:], background)
        if certain and (known in TELL or look not in _RUN_NOTHING):
            return  # the rest is the other program's
        own = own or (certain and (look is not None or known in INERT))
        if not own and any(map(str.isspace, word.strip())):
            for text in _texts(word):
                yield NestedScript(text, background=background, prose=name not in CARRIERS)


def _texts(word: str) -> Iterator[str]:
    """A word that holds a line, and what stands behind each ``NAME=`` in front of it: ``core.pager=!LINE``."""
    while True:
        yield word.lstrip("!")
        found = _NAMED.match(word)
        if found is None:
            return
        word = word[found.end() :]


def _may_be_meant(name: str, words: tuple[str, ...], place: Place) -> bool:
    """True when a program that cannot be told, or is unknown, is given what only the provider's would take."""
    meant = vastcli.named(words[1:])
    if HOLE in name or re.search(r"[*?\[]", name):
        return bool(meant) or mentions(place.line)
    return ("guard", "unlock") in pairwise(words) or any(
        command.startswith(("destroy instance", "recycle")) for command in meant
    )


_LOOKS: dict[str, Look] = {
    **dict.fromkeys(vastcli.NAMES, provider.vastai),
    **dict.fromkeys(carriers.SHELLS, carriers.shell),
    **dict.fromkeys(carriers.POWERSHELLS, carriers.powershell),
    **dict.fromkeys(("scp", "rsync", "sftp", "lftp", "pscp", "psftp"), box.copy),
    **dict.fromkeys(("rm", "rmdir", "unlink", "shred", "truncate", "find", "remove-item", "ri", "del", "erase", "rd"),
                    box.remove),
    **dict.fromkeys(("torchrun", "deepspeed"), launchers.launcher),
    **dict.fromkeys(("iex", "invoke-expression"), carriers.expression),
    **dict.fromkeys(("start-process", "saps", "start"), carriers.start),
    **dict.fromkeys(("alias", "set-alias", "new-alias", "sal", "nal"), carriers.alias),
    **dict.fromkeys(webapi.SENDERS, webapi.send),
    **dict.fromkeys(machines.TOOLS, machines.look),
    "accelerate": launchers.accelerate,
    "harness": provider.harness,
    "ssh": box.ssh,
    "plink": box.ssh,
    "cmd": carriers.cmd,
    "eval": carriers.evaluate,
    "source": carriers.shell,
    ".": carriers.shell,
}  # fmt: skip


_RUN_NOTHING = (None, webapi.send, machines.look, box.copy, box.remove)
"""Looks at programs that start nothing of their words: one of their names may as well be another program's argument."""


def _look(name: str) -> Look | None:
    return _LOOKS.get(name) or (carriers.python if carriers.PYTHON.fullmatch(name) else None)
