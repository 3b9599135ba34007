"""The proof line of a job: what its training must print to show that the operator's data is in it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

LONGEST: Final = 200
"""Characters of a proof line, placeholders included."""

_PLACE: Final = re.compile(r"\{([a-z][a-z0-9_]{0,15})\}")


@dataclass(frozen=True, slots=True)
class ProofLine:
    """A line in which the name of each trainer, in braces, stands for the rows that it gets.

    Raises ValueError for a text that could not be told from other lines, or whose counts could not be read back.
    """

    text: str

    def __post_init__(self) -> None:
        problem = _problem(self.text)
        if problem is not None:
            raise ValueError(f"a proof line {problem}, such as 'ROWS: {{sft}} SFT + {{dpo}} DPO'")

    @property
    def trainers(self) -> tuple[str, ...]:
        """Trainers whose rows the line tells, in its order."""
        return tuple(_PLACE.findall(self.text))

    def stating(self, rows: Mapping[str, int]) -> str:
        """The line with these rows by trainer, word for word."""
        return _PLACE.sub(lambda place: str(rows[place[1]]), self.text)

    def read(self, line: str) -> dict[str, int] | None:
        """Rows by trainer that a whole line states; None for another line."""
        match = self.pattern.fullmatch(line)
        return {trainer: int(count) for trainer, count in match.groupdict().items()} if match else None

    @property
    def opening(self) -> str:
        """The words before the first count: by them the line is found, whatever follows them."""
        return re.sub(r"\W+\Z", "", _words(self.text)[0])

    @property
    def pattern(self) -> re.Pattern[str]:
        """Matches the whole line; its groups are the trainers."""
        first, *others = map(re.escape, _words(self.text))
        counted = (f"(?P<{name}>[0-9]{{1,12}}){words}" for name, words in zip(self.trainers, others, strict=True))
        return re.compile("".join((first, *counted)))


def _problem(text: str) -> str | None:
    places, words = _PLACE.findall(text), _words(text)
    if not places or len(set(places)) != len(places) or any(brace in "".join(words) for brace in "{}"):
        return "holds the name of each trainer in braces once, and no other brace"
    if len(text) > LONGEST:
        return f"has at most {LONGEST} characters"
    if not text.isprintable() or text != text.strip():
        return "is one printable line without blanks at its ends"
    if not any(map(str.isalpha, words[0])):
        return "begins with words, by which it is found"
    if any(not word or word.isdigit() for word in words[1:-1]):
        return "keeps its counts apart"
    return None


def _words(text: str) -> list[str]:
    """The text before the first count, between the counts and behind the last."""
    return _PLACE.split(text)[::2]
