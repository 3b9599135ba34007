"""Looks at what reaches the rented box: commands over ssh, copies from it, and removals on it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.shellguard import rules
from harness.shellguard.reading import HOLE, ProgramCall, program
from harness.shellguard.seen import NestedCall, NestedScript, Place, Seen, Violation, said

ARTIFACT = re.compile(r"\.gguf|\.safetensors|models?\b|output|checkpoint|adapter|final", re.IGNORECASE)
"""Names of training outputs: the package's models/output tree, checkpoints, adapters, model files."""

_OUTPUTS = re.compile(
    r"\.gguf|\.safetensors|models\b|output|checkpoint|adapter|training\.log|MANIFEST\.json|run\.json", re.IGNORECASE
)
# A directory that holds the outputs somewhere below it, or a pattern or a hole that may name them.
_ABOVE = re.compile(r"(/|~|\.|\.\.|/workspace|/root|.*vastai_llm_training)/?\**|\*+|.*\0.*")
_BOX_PATH = re.compile(r"^/workspace\b|models/output\b")
_HARMLESS = re.compile(r"/(tmp|var/tmp|var/cache)/[^*\0]+|(.*/)?(__pycache__|\.cache)(/.*)?")
_REMOTE_SOURCE = re.compile(r"(?![A-Za-z]:[\\/])[^/\\\s]+:.*")
_LOCAL = re.compile(r"(-o)?(Proxy|Local|KnownHosts)Command[= ]", re.IGNORECASE)
"""Options of ssh_config(5) whose value runs on this machine."""
# ssh(1) and scp(1), OpenSSH 9: the options that take a value.
_SSH_VALUES = frozenset("BbcDEeFIiJLlmOoPpQRSWw")
_REMOVERS = frozenset({"rm", "shred", "unlink"})
_ENDERS = frozenset({"kill", "pkill", "killall", "skill", "reboot", "shutdown", "poweroff", "halt"})
_ONLY_ASKS = frozenset({"-0", "-l", "-L"})
"""Options of kill(1) that send nothing."""
_PYTHON_REMOVES = re.compile(r"\b(rmtree|unlink|rmdir|removedirs|os\.remove)\b")
_STREAMERS = frozenset({"cat", "tar", "dd", "gzip", "zstd", "pigz", "base64"})


def ssh(call: ProgramCall, place: Place) -> Iterator[Seen]:
    """``ssh host command``: the command, and text that it would read, are judged as running on the box."""
    rest = _behind_host(call.words[1:])
    for word in call.words:
        if found := _LOCAL.match(word):
            yield NestedScript(word[found.end() :])
    background = call.background or place.background
    if rest:
        command = " ".join(rest)
        yield NestedScript(command, remote=True)
        if (
            background
            and program(rest[0].split()[0] if rest[0].split() else "") in _STREAMERS
            and ARTIFACT.search(command)
        ):
            yield Violation(rules.BACKGROUND, said(call))
    if call.stdin is not None:
        yield NestedScript(call.stdin, remote=True)


def _behind_host(args: tuple[str, ...]) -> tuple[str, ...]:
    """The words behind the host: what ssh would send to the remote shell, joined with blanks."""
    i = 0
    while i < len(args):
        word = args[i]
        if word == "--":
            return args[i + 2 :]
        if not word.startswith("-") or word == "-":
            # ssh takes options behind the host too, until the first word of the command.
            rest = args[i + 1 :]
            skipped = 0
            while skipped < len(rest) and rest[skipped].startswith("-") and rest[skipped] != "--":
                skipped += _width(rest[skipped])
            return rest[skipped:]
        i += _width(word)
    return ()


def _width(option: str) -> int:
    """How many words an option takes: two when its last letter takes a value that is not glued to it."""
    for at, letter in enumerate(option[1:], start=1):
        if letter in _SSH_VALUES:
            return 1 if at + 1 < len(option) else 2
    return 1


def meddle(call: ProgramCall, place: Place) -> Iterator[Seen]:
    """Any call that would run on the box: what ends its processes, or takes outputs elsewhere."""
    words = call.words
    while words and (program(words[0]) in {"sudo", "doas"} or words[0].startswith("-")):
        words = words[1:]
    if not place.remote or not words:
        return
    name, args = program(words[0]), words[1:]
    if (name in _ENDERS and not _ONLY_ASKS & set(args)) or (name == "tmux" and any(a.startswith("kill") for a in args)):
        yield Violation(rules.INTERRUPT, said(call))
    if (name == "mv" and any(_OUTPUTS.search(word) for word in args[:-1])) or (name == "git" and "clean" in args):
        yield Violation(rules.REMOVE_UNKNOWN, said(call))


def python(code: str, place: Place) -> Iterator[Seen]:
    """Python that would run on the box: a removal of outputs, or of what the command guard cannot see into."""
    if place.remote and _PYTHON_REMOVES.search(code):
        yield Violation(rules.REMOVE if _OUTPUTS.search(code) else rules.REMOVE_UNKNOWN, code)


def copy(call: ProgramCall, place: Place) -> Iterator[Seen]:
    """``scp``, ``rsync``, ``sftp``, ``lftp``: never an artifact in the background, never with removal of the source."""
    words = call.words[1:]
    sources = [word for word in words[:-1] if _REMOTE_SOURCE.fullmatch(word)]
    if program(call.words[0]) in {"sftp", "lftp", "ftp"}:
        sources = [*words, call.stdin or ""]
        for batch in (call.stdin or "", *(word for word in words if any(map(str.isspace, word)))):
            yield NestedScript(batch, remote=True)  # rm and its like are spelt as a shell spells them
    if (call.background or place.background) and any(ARTIFACT.search(s) or HOLE in s for s in sources):
        yield Violation(rules.BACKGROUND, said(call))
    if sources and any(word.lower() == "--remove-source-files" for word in words):
        yield Violation(rules.REMOVE, said(call))
    to_box = bool(words) and _REMOTE_SOURCE.fullmatch(words[-1]) is not None
    if to_box and any(word.startswith("--del") for word in words):
        yield Violation(rules.REMOVE_UNKNOWN, said(call))


def remove(call: ProgramCall, place: Place) -> Iterator[Seen]:
    """``rm`` and its kin: on the box everything that is or may hold an output; here only the box's own paths."""
    name = program(call.words[0])
    paths = [word for word in call.words[1:] if not word.startswith("-")]
    if name == "find":
        yield from _executed(call.words)
        if not _find_removes(call.words):
            return
        paths = [*call.words[1:]] if any(_OUTPUTS.search(word) for word in call.words) else paths[:1]
    if not place.remote:
        if any(_BOX_PATH.search(path) for path in paths):
            yield Violation(rules.REMOVE, said(call))
        return
    if any((_OUTPUTS.search(path) or _ABOVE.fullmatch(path)) and not _HARMLESS.fullmatch(path) for path in paths):
        yield Violation(rules.REMOVE, said(call))
    elif _recursive(call.words) and not all(_HARMLESS.fullmatch(path) for path in paths):
        yield Violation(rules.REMOVE_UNKNOWN, said(call))


def overwrite(call: ProgramCall, place: Place) -> Iterator[Seen]:
    """``dd``, ``cp /dev/null``, ``tar --remove-files``, ``rsync --delete`` on the box: removals by another name."""
    name, words = program(call.words[0]), call.words[1:]
    into = {
        "dd": [word.removeprefix("of=") for word in words if word.startswith("of=")],
        "cp": list(words[-1:]) if "/dev/null" in words else [],
        "tar": list(words) if "--remove-files" in words else [],
        "rsync": list(words[-1:]) if any(word.startswith("--del") for word in words) else [],
    }.get(name, [])
    if place.remote and any(_OUTPUTS.search(path) or _ABOVE.fullmatch(path) for path in into):
        yield Violation(rules.REMOVE, said(call))


def _executed(words: tuple[str, ...]) -> Iterator[Seen]:
    """Calls that ``find`` starts for each file; its removals are judged by where it looks."""
    for i, word in enumerate(words[:-1]):
        if word in {"-exec", "-execdir", "-ok", "-okdir"} and program(words[i + 1]) not in _REMOVERS:
            yield NestedCall(words[i + 1 :])


def _find_removes(words: tuple[str, ...]) -> bool:
    return "-delete" in words or any(program(word) in _REMOVERS for word in words)


def _recursive(words: tuple[str, ...]) -> bool:
    return any(re.fullmatch(r"-[a-zA-Z]*[rR][a-zA-Z]*|--recursive|-delete", word) for word in words[1:])
