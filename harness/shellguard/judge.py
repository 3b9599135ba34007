"""Decides about a command line: allow, ask or deny, with the rules it breaks. Pure.

A line is read as its shell reads it; every call in it is looked at, and whatever a call
carries (``sh -c``, ``ssh``, ``eval``, Python's ``-c`` ...) is read in turn. A program that the
guard does not know is searched for a guarded call among its arguments, as ``sudo`` or ``timeout``
would start it. What cannot be read is held when it names a guarded act.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from harness.shellguard import box, carriers, launchers, provider, rules, vastcli
from harness.shellguard.programs import CARRIERS, DETACHED, OPEN_ENDED, before_inert, inert
from harness.shellguard.reading import HOLE, ParsedLine, ProgramCall, Shell, program
from harness.shellguard.rules import Decision
from harness.shellguard.seen import Look, NestedCall, NestedScript, Place, Seen, Violation, said
from harness.shellguard.topics import mentions, touches

_MAX_NESTING = 12


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


def _reader(shell: Shell) -> Callable[[str], ParsedLine]:
    # The grammars are loaded only for a line that has something to do with a rule: a hook runs at every command.
    if shell is Shell.POWERSHELL:
        from harness.shellguard.powershell import read  # noqa: PLC0415  # see above
    elif shell is Shell.CMD:
        from harness.shellguard.cmdexe import read  # noqa: PLC0415  # see above
    else:
        from harness.shellguard.bash import read  # noqa: PLC0415  # see above
    return read


def _script(script: NestedScript, place: Place, depth: int) -> Iterator[Violation]:
    if depth > _MAX_NESTING:
        if mentions(place.line):
            yield Violation(rules.UNREADABLE, place.line)
        return
    unknown = "%_%" if script.shell is Shell.CMD else "${_}"
    reading = _reader(script.shell)(script.text.replace(HOLE, unknown))
    place = replace(
        place,
        remote=place.remote or script.remote,
        background=place.background or script.background,
        prose=script.prose,
    )
    for call in reading.calls:
        yield from _call(call, place, depth)
    speaks = any(call.words and program(call.words[0]) in vastcli.NAMES for call in reading.calls)
    if reading.doubts and (speaks or mentions(script.text)):
        yield Violation(rules.UNREADABLE, script.text)


def _resolve(seen: Iterator[Seen], place: Place, depth: int) -> Iterator[Violation]:
    for item in seen:
        if isinstance(item, Violation):
            yield item
        elif isinstance(item, NestedScript):
            yield from _script(item, place, depth + 1)
        elif depth < _MAX_NESTING:
            inner = replace(place, background=place.background or item.background)
            yield from _call(ProgramCall(item.words), inner, depth + 1)
        elif mentions(place.line):
            yield Violation(rules.UNREADABLE, place.line)


def _call(call: ProgramCall, place: Place, depth: int) -> Iterator[Violation]:
    yield from _resolve(launchers.flags(call), place, depth)
    yield from _resolve(box.meddle(call, place), place, depth)
    if not call.words or inert(call):
        return
    yield from _resolve(provider.http(call), place, depth)
    yield from _resolve(box.overwrite(call, place), place, depth)
    name = program(call.words[0])
    look = _look(name)
    if look is not None:
        yield from _resolve(look(call, place), place, depth)
        return
    if place.prose and name not in CARRIERS and HOLE not in name:
        return
    yield from _resolve(_carried(call, name, place), place, depth)


def _carried(call: ProgramCall, name: str, place: Place) -> Iterator[Seen]:
    """Calls that a program without a look of its own may start: one among its words, a line in one of them."""
    if "(" in call.words[0] and mentions(call.words[0]):
        yield Violation(
            rules.UNREADABLE, said(call)
        )  # ``system("...")``: another language's code, not a program's name
    words = before_inert((*call.words, HOLE) if name in OPEN_ENDED else call.words, lambda n: _look(n) is not None)
    background = call.background or (name in DETACHED and "-wait" not in {w.lower() for w in words})
    started = next((i for i, w in enumerate(words) if i and not w.startswith("-") and _look(program(w))), None)
    if started is not None:
        yield NestedCall(words[started:], background)
    for word in words[1:]:
        if any(c.isspace() for c in word.strip()):
            yield NestedScript(word, background=background, prose=name not in CARRIERS)
    if call.stdin is not None and name in OPEN_ENDED:
        yield NestedScript(call.stdin, prose=True)
    if started is None and _may_be_meant(name, words, place):
        yield Violation(rules.UNREADABLE, said(call))


def _may_be_meant(name: str, words: tuple[str, ...], place: Place) -> bool:
    """True when a program that cannot be told, or is unknown, is given what only the provider's would take."""
    meant = vastcli.named(words[1:])
    if HOLE in name or re.search(r"[*?\[]", name):
        return bool(meant) or mentions(place.line)
    return any(command.startswith(("destroy instance", "recycle")) for command in meant)


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
    "accelerate": launchers.accelerate,
    "harness": provider.harness,
    "ssh": box.ssh,
    "plink": box.ssh,
    "cmd": carriers.cmd,
    "eval": carriers.evaluate,
    "source": carriers.shell,
    ".": carriers.shell,
}  # fmt: skip


def _look(name: str) -> Look | None:
    return _LOOKS.get(name) or (carriers.python if carriers.PYTHON.fullmatch(name) else None)
