"""Defects that make rows unfit to train on: one call over all files, findings by file, line and rule. Pure.

It cannot see whether a label is true, nor near duplicates that differ in their numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from harness.artifacts.dataset import labels, market, phrases, repeats, texts
from harness.artifacts.dataset.rows import Defect, Rows, Schema
from harness.artifacts.dataset.texts import Texts, bounded


@dataclass(frozen=True, slots=True)
class DatasetLimits:
    """Limits of what is sound: shares of rows between 0 and 1; ``named`` is how many lines a rule names in one file.

    ``ignore`` names rules that a job does without, for data to which they do not apply.
    """

    max_duplicate_share: float = 0.01
    max_class_share: float = 0.9
    named: int = 10
    ignore: frozenset[str] = frozenset()


def judge(
    training: Sequence[Rows], evaluation: Sequence[Rows] = (), limits: DatasetLimits | None = None
) -> tuple[Defect, ...]:
    """Every defect of the rows that were read (the lines that are no rows are ``Rows.defects``)."""
    limits = limits or DatasetLimits()
    train, evaluate = [texts.of(rows) for rows in training], [texts.of(rows) for rows in evaluation]
    found = (defect for defect in _judge(train, evaluate, limits) if defect.rule not in limits.ignore)
    return tuple(sorted(found, key=lambda defect: (defect.file, defect.rule, defect.line)))


def _judge(training: list[Texts], evaluation: list[Texts], limits: DatasetLimits) -> Iterator[Defect]:
    named = limits.named
    taught = {id(file): labels.of(file) for file in training}
    keys = {id(file): repeats.essences(file.prompts) for file in training}
    yield from phrases.judge([file.source for file in (*training, *evaluation)], named)
    for file in (*training, *evaluation):
        yield from _empty(file, named)
        yield from _equal_answers(file, named)
        yield from market.judge_pairs(file, named)
    for file in training:
        yield from labels.judge(file, taught[id(file)], limits.max_class_share, named)
    for preferences in (True, False):
        files = [file for file in training if (file.source.schema is Schema.PREFERENCE) is preferences]
        if files:
            mine, said = [keys[id(file)] for file in files], [taught[id(file)] for file in files]
            yield from repeats.judge(files, mine, said, limits.max_duplicate_share, named)
    if evaluation:
        yield from repeats.unlike_evaluation(frozenset(chain(*keys.values())), evaluation, named)
    yield from market.judge_dates(training, evaluation, named)


def _empty(file: Texts, named: int) -> Iterator[Defect]:
    columns = {"prompt": file.prompts, "answer": file.answers, "rejected answer": file.rejected}
    for what, column in columns.items():
        if "" in column or any(map(str.isspace, column)):
            blank = (row for row, text in enumerate(column) if not text.strip())
            yield from bounded((file.defect(row, "empty_turn", f"the {what} is empty") for row in blank), named)


def _equal_answers(file: Texts, named: int) -> Iterator[Defect]:
    pairs = enumerate(zip(file.answers, file.rejected, strict=False))
    same = (row for row, (chosen, rejected) in pairs if chosen.strip() == rejected.strip())
    detail = "there is nothing to prefer"
    yield from bounded((file.defect(row, "chosen_equals_rejected", detail) for row in same), named)
