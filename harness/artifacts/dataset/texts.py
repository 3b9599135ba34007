"""One file's rows as columns of text, whatever their schema: what is asked, what is to be learned. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, Literal

from harness.artifacts.dataset.contract import Schema, as_completion
from harness.artifacts.dataset.rows import Defect, Rows

Part = Literal["asked", "learned", "plain"]
"""What a text is for: it is the question, or the answer to learn, or neither can be told."""

_PARTS: Final[dict[str, Part]] = {
    "system": "asked",
    "prompt": "asked",
    "instruction": "asked",
    "input": "asked",
    "completion": "learned",
    "chosen": "learned",
    "rejected": "learned",
    "output": "learned",
    "text": "plain",
}


@dataclass(frozen=True, slots=True)
class Texts:
    """Parallel columns of a file: ``answers`` are completions or chosen texts; ``rejected`` is empty without pairs.

    Plain text has prompts only.
    """

    source: Rows
    prompts: list[str]
    answers: list[str]
    rejected: list[str]

    def defect(self, row: int, rule: str, detail: str) -> Defect:
        """A defect of one row, by its index."""
        return Defect(self.source.name, self.source.lines[row], rule, detail)

    def column(self, field: str) -> list[str] | None:
        """A further field of every row, or None when not every row has it; what is not text as it is spelled."""
        try:
            values = list(map(itemgetter(field), self.source.rows))
        except KeyError:
            return None
        return values if set(map(type, values)) == {str} else [str(value)[:80] for value in values]


def of(source: Rows) -> Texts:
    """The columns of a file's rows. The turns of a conversation before the last are its prompt; plain text is asked."""
    match source.schema:
        case Schema.PREFERENCE:
            return Texts(source, *(_column(source, field) for field in ("prompt", "chosen", "rejected")))
        case Schema.COMPLETION:
            return Texts(source, _column(source, "prompt"), _column(source, "completion"), [])
        case Schema.TEXT:
            return Texts(source, _column(source, "text"), [], [])
        case _:
            flat = list(map(as_completion, source.rows))
            return Texts(source, [row["prompt"] for row in flat], [row["completion"] for row in flat], [])


def turns(row: dict[str, Any]) -> Iterator[tuple[str, Part, str]]:
    """Every text of a row that a model reads or learns, with the name of its place and its part."""
    for field, part in _PARTS.items():
        text = row.get(field)
        if isinstance(text, str):
            yield field, part, text
    for number, turn in enumerate(row.get("messages") or ()):
        yield f"messages[{number}]", "learned" if turn["role"] == "assistant" else "asked", turn["content"]


def _column(source: Rows, field: str) -> list[str]:
    return list(map(itemgetter(field), source.rows))
