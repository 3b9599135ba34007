"""The proof line of a job: what its training must print to show that the operator's data is in it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

LONGEST: Final = 200
"""Characters of a proof line, placeholders included."""

_PLACES: Final = ("{sft}", "{dpo}")


@dataclass(frozen=True, slots=True)
class ProofLine:
    """A line in which ``{sft}`` and ``{dpo}`` stand for the rows that each trainer gets.

    Raises ValueError for a text that could not be told from other lines, or whose counts could not be read back.
    """

    text: str

    def __post_init__(self) -> None:
        problem = _problem(self.text)
        if problem is not None:
            raise ValueError(f"a proof line {problem}, such as 'ROWS: {{sft}} SFT + {{dpo}} DPO'")

    def stating(self, sft: int, dpo: int) -> str:
        """The line with these counts, word for word."""
        return self.text.replace("{sft}", str(sft)).replace("{dpo}", str(dpo))

    @property
    def opening(self) -> str:
        """The words before the first count: by them the line is found, whatever follows them."""
        return re.sub(r"\W+\Z", "", _words(self.text)[0])

    @property
    def pattern(self) -> re.Pattern[str]:
        """Matches the whole line; its groups are ``sft`` and ``dpo``."""
        escaped = re.escape(self.text)
        for place in _PLACES:
            escaped = escaped.replace(re.escape(place), f"(?P<{place[1:-1]}>[0-9]{{1,12}})")
        return re.compile(escaped)


def _problem(text: str) -> str | None:
    words = text
    for place in _PLACES:
        words = words.replace(place, "", 1)
    if len(text) - len(words) != sum(map(len, _PLACES)) or "{" in words or "}" in words:
        return "holds {sft} and {dpo} once each, and no other brace"
    if len(text) > LONGEST:
        return f"has at most {LONGEST} characters"
    if not text.isprintable() or text != text.strip():
        return "is one printable line without blanks at its ends"
    before, between, _ = _words(text)
    if not any(map(str.isalpha, before)):
        return "begins with words, by which it is found"
    if not between or between.isdigit():
        return "keeps its two counts apart"
    return None


def _words(text: str) -> list[str]:
    """The text before the first count, between the two and behind the second."""
    return re.split("|".join(map(re.escape, _PLACES)), text)
