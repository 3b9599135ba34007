"""Reads the pages that people type from: every command that they show, and every option that they name by itself."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "training_pkg/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
)
OURS = ("harness", "pytest", "tox")

_BLOCK = re.compile(r"^ *```(?P<kind>\w*)[^\n]*\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_OTHER_LANGUAGES = ("python", "toml", "json")
_COMMAND_OF_A_ROW = re.compile(r"\| `harness ((?:[a-z]+ ?)+)")
_ENDS = frozenset(["&&", "||", "|", ";", "&", ">", ">>", "<", "(", ")"])


@dataclass(frozen=True, slots=True)
class Shown:
    """One command of a page, from the program's name on; ``typed``: it stands in a block, to be typed as it is."""

    place: str
    program: str
    words: tuple[str, ...]
    typed: bool

    def __str__(self) -> str:
        return f"{self.place}: {shlex.join((self.program, *self.words))}"


@dataclass(frozen=True, slots=True)
class Named:
    """A long option without its command; ``command`` is that of its row, where it stands in a table of commands."""

    place: str
    option: str
    command: tuple[str, ...]


def shown(page: str, text: str) -> Iterator[Shown]:
    """Every command of a page that calls one of ours, a module of Python, or PowerShell."""
    for number, line, typed in _lines(text):
        for words in _readings(line):
            for program, told in _commands(words):
                yield Shown(f"{page}:{number}", program, told, typed)


def named(page: str, text: str) -> Iterator[Named]:
    """Every long option that a page names apart from a command."""
    for number, line in enumerate(_prose(text).splitlines(), start=1):
        row = _COMMAND_OF_A_ROW.match(line)
        for span in _SPAN.findall(line):
            for word in span.split() if span.startswith("-") else ():
                if re.match(r"--[a-z]", word):
                    yield Named(f"{page}:{number}", word.partition("=")[0], tuple(row[1].split()) if row else ())


def _lines(text: str) -> Iterator[tuple[int, str, bool]]:
    """Each line that a shell would read, with its number: those of blocks, and code within a sentence or a table."""
    for block in _BLOCK.finditer(text):
        if block["kind"] not in _OTHER_LANGUAGES:
            first = text.count("\n", 0, block.start()) + 2
            for number, line in enumerate(block["text"].splitlines(), start=first):
                if block["kind"] != "console" or line.startswith("$ "):
                    yield number, line.strip().removeprefix("$ "), True
    prose = _prose(text)
    for span in _SPAN.finditer(prose):
        yield prose.count("\n", 0, span.start()) + 1, " ".join(span[1].split()), False


def _prose(text: str) -> str:
    return _BLOCK.sub(lambda block: "\n" * block[0].count("\n"), text)


def _readings(line: str) -> Iterator[list[str]]:
    """The words of a line: with what stands in brackets and without, and with each of what a bar divides in a table."""
    line = re.sub(r"<([\w-]+)>", r"\1", line).replace("\\|", "¦")
    for told in dict.fromkeys((re.sub(r" \[([^]]+)]", r" \1", line), re.sub(r" \[([^]]+)]", "", line))):
        lexer = shlex.shlex(told, posix=True, punctuation_chars="&|;<>()")
        lexer.whitespace_split, lexer.commenters = True, ""
        lexer.escape = ""  # a backslash divides folders of Windows
        try:
            words = list(lexer)
        except ValueError:
            return  # an apostrophe: no line for a shell
        yield from map(list, itertools.product(*(word.split("¦") for word in words)))


def _commands(words: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The commands of a line, each with what stands behind the program's name."""
    for divides, group in itertools.groupby(words, key=_ENDS.__contains__):
        told = [] if divides else list(group)
        while told and (re.match(r"[A-Z_]+=", told[0]) or re.fullmatch(r"[*/\d]+", told[0]) or told[0] == "export"):
            del told[0]  # the environment, or the hours of cron
        for word in told[:1]:
            name = re.split(r"[/\\]", word)[-1].removesuffix(".exe")
            if name in {"python", "python3"} and told[1:2] == ["-m"]:
                name, told = (told[2], told[2:]) if told[2] in OURS else (f"python -m {told[2]}", told[2:])
            if name in {*OURS, "powershell"} or name.startswith("python -m"):
                yield name, tuple(told[1:])
        for word in told:
            if re.search(r"\.exe ", word):  # a line within a line, as the Task Scheduler takes it
                yield from _commands(word.split())
