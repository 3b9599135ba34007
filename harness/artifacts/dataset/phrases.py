"""Rules on the words of the texts: values never rendered or never computed, damage, told outcomes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from harness.artifacts.dataset import damage, outcomes, values
from harness.artifacts.dataset.rows import Defect, Rows
from harness.artifacts.dataset.search import Pieces, Search
from harness.artifacts.dataset.texts import Part, turns
from harness.core.text import printable

_TURNS: Final[frozenset[Part]] = frozenset({"asked", "learned"})
_EVERYWHERE: Final[frozenset[Part]] = _TURNS | {"plain"}


@dataclass(frozen=True, slots=True)
class WordRule:
    """A search in the texts of some parts of a row, and what it says about what it finds."""

    name: str
    search: Search
    says: str
    parts: frozenset[Part] = _EVERYWHERE


RULES: Final = (
    WordRule("unrendered_value", values.UNRENDERED, "a placeholder was never filled in"),
    WordRule("not_a_number", values.NOT_A_NUMBER, "a value that could not be computed"),
    WordRule("damaged_text", damage.DAMAGED, "characters were lost or decoded wrongly"),
    WordRule("turn_marks", damage.TURN_MARK, "a mark of a chat format", _TURNS),
    WordRule(
        "error_as_answer", damage.SERVICE_ERROR, "a service's error in place of an answer", frozenset({"learned"})
    ),
    WordRule("outcome_stated", outcomes.TOLD, "it tells what happened afterwards", frozenset({"learned"})),
    WordRule("outcome_stated", outcomes.TOLD_IN_PROMPT, "the prompt tells the answer", frozenset({"asked"})),
)


def judge(sources: Sequence[Rows]) -> Iterator[Defect]:
    """Every row that one of the rules does not like, once for a rule."""
    pieces = Pieces(frozenset[bytes]().union(*(source.pieces for source in sources)))
    for rule in RULES:
        suspect = rule.search.suspect(pieces)
        for source in sources:
            if not suspect.isdisjoint(source.pieces):
                yield from _found(source, rule)
    suspect = values.NO_VALUE.suspect(pieces)
    for source in sources:
        if not suspect.isdisjoint(source.pieces):
            yield from _without_value(source)


def _found(source: Rows, rule: WordRule) -> Iterator[Defect]:
    for line, row in zip(source.lines, source.rows, strict=True):
        texts = list(turns(row))
        asked = "\n".join(text for _, part, text in texts if part == "asked")
        for place, part, text in texts:
            match = rule.search.exact(text, asked) if part in rule.parts else None
            if match is not None:
                yield Defect(source.name, line, rule.name, f"{place}: {rule.says}: {_around(text, match)}")
                break


def _without_value(source: Rows) -> Iterator[Defect]:
    texts = [list(turns(row)) for row in source.rows]
    numeric = values.Labels(text for row in texts for _, _, text in row)
    for line, row in zip(source.lines, texts, strict=True):
        for place, _, text in row:
            match = numeric.without_number(text)
            if match is not None:
                detail = f"{place}: a word where a number belongs: {_around(text, match)}"
                yield Defect(source.name, line, "not_a_number", detail)
                break


def _around(text: str, match: re.Match[str]) -> str:
    around = text[max(0, match.start() - 30) : match.end() + 30].replace("\n", " ")
    return f"… {printable(around, 120)} …"
