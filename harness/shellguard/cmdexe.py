"""Reads a line as cmd.exe does: its quotes, carets and chain signs; ``%NAME%`` and ``!NAME!`` are holes. Pure."""

from __future__ import annotations

import re
from dataclasses import replace

from harness.shellguard.reading import HOLE, ParsedLine, ProgramCall

_TOKEN = re.compile(
    r"""(?P<chain>&&|\|\||&|\||\n|(?<!\w)\(|\))      # the next command starts
      | (?P<redirect>\d?[<>]>?(?:&\d)?\s*)           # what follows names a file
      | (?P<blank>[ \t\r,;=]+)                       # cmd separates words at these too
      | (?P<quoted>"[^"\n]*"?)
      | (?P<escaped>\^(?:\n|.)?)
      | (?P<variable>%[^%\s]+%|%%?~?\w|![^!\s]+!)
      | (?P<plain>.)""",
    re.VERBOSE,
)
_KEYWORDS = frozenset({"", "do", "else", "in", "not"})


def read(text: str) -> ParsedLine:
    """Every call in a line of cmd.exe."""
    reader = _Reader()
    for found in _TOKEN.finditer(text):
        reader.take(found.lastgroup or "plain", found[0])
    reader.end_call()
    return ParsedLine(tuple(reader.calls))


class _Reader:
    """The calls so far, the words of the current one, and the word under construction."""

    def __init__(self) -> None:
        self.calls: list[ProgramCall] = []
        self.words: list[str] = []
        self.files: list[str] = []
        self.word: str | None = None
        self.names_file = False

    def take(self, kind: str, value: str) -> None:
        match kind:
            case "chain":
                self.end_call()
            case "redirect":
                self.end_word()
                self.names_file = "&" not in value
            case "blank":
                self.end_word()
            case _:
                texts = {"quoted": value.strip('"'), "escaped": value[1:].strip("\n"), "variable": HOLE}
                self.word = (self.word or "") + texts.get(kind, value)

    def end_word(self) -> None:
        if self.word is None:
            return
        if not self.names_file:
            self.words.append(self.word)
        else:
            self.files.append(self.word)
        self.word, self.names_file = None, False

    def end_call(self) -> None:
        self.end_word()
        words = self.words
        while words and words[0].lstrip("@").lower() in _KEYWORDS:
            words.pop(0)
        if words:
            words[0] = words[0].lstrip("@")
            self.calls.append(ProgramCall(tuple(words), files=tuple(self.files)))
        if (joined := _single_quoted(words)) != words:
            self.calls.append(ProgramCall(tuple(joined)))
        if not words and self.files:  # ``(...) > file``
            self.calls = [replace(call, files=(*call.files, *self.files)) for call in self.calls]
        self.words, self.files = [], []


def _single_quoted(words: list[str]) -> list[str]:
    """The words as programs of Cygwin, MSYS and WSL take them, a Unix shell among them: to them ``'`` is a quote."""
    read: list[str] = []
    quoted: list[str] = []
    for word in words:
        if not quoted and not word.startswith("'"):
            read.append(word)
            continue
        quoted.append(word)
        text = " ".join(quoted)
        if len(text) > 1 and text.endswith("'"):
            read.append(text.strip("'"))
            quoted = []
    return [*read, " ".join(quoted).lstrip("'")] if quoted else read
