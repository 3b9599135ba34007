"""One file's rows as columns of text, whatever their schema: what is asked, what is to be learned. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

from harness.artifacts.dataset.rows import Defect, Rows, Schema


@dataclass(frozen=True, slots=True)
class Texts:
    """Parallel columns of a file: ``answers`` are completions or chosen texts; ``rejected`` is empty without pairs."""

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
    """The columns of a file's rows. The turns of a conversation before the last are its prompt."""
    rows = source.rows
    match source.schema:
        case Schema.COMPLETION:
            return Texts(source, _column(source, "prompt"), _column(source, "completion"), [])
        case Schema.PREFERENCE:
            return Texts(source, *(_column(source, field) for field in ("prompt", "chosen", "rejected")))
        case Schema.INSTRUCTION:
            prompts = [
                f"{row['instruction']}\n{row['input']}" if row.get("input") else row["instruction"] for row in rows
            ]
            return Texts(source, prompts, _column(source, "output"), [])
        case Schema.MESSAGES:
            turns = [[turn["content"] for turn in row["messages"]] for row in rows]
            return Texts(source, ["\n".join(said[:-1]) for said in turns], [said[-1] for said in turns], [])
        case None:
            return Texts(source, [], [], [])


def turns(row: dict[str, object]) -> Iterator[tuple[str, str]]:
    """Every text of a row that a model reads or learns, with the name of its place."""
    for field in ("prompt", "completion", "chosen", "rejected", "instruction", "input", "output"):
        text = row.get(field)
        if isinstance(text, str):
            yield field, text
    messages = row.get("messages")
    if isinstance(messages, list):
        for number, turn in enumerate(messages):
            yield f"messages[{number}]", turn["content"]


def _column(source: Rows, field: str) -> list[str]:
    return list(map(itemgetter(field), source.rows))
