"""Defects that make rows unfit to train on: one call over all files, findings by file, line and rule. Pure.

It cannot see whether a label is true, nor near duplicates that differ in their numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby

from harness.artifacts.dataset import labels, market, phrases, repeats, texts
from harness.artifacts.dataset.rows import Defect, Rows, Schema
from harness.artifacts.dataset.texts import Texts


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
    ordered = sorted(found, key=lambda defect: (defect.file, defect.rule, defect.line))
    by_rule = groupby(ordered, key=lambda defect: (defect.file, defect.rule))
    return tuple(chain.from_iterable(_bounded(list(group), limits.named) for _, group in by_rule))


def _bounded(defects: list[Defect], named: int) -> Iterator[Defect]:
    """One rule's defects of one file, by line: those of the file as a whole, and the first lines."""
    lines = [defect for defect in defects if defect.line]
    yield from defects[: len(defects) - len(lines)]
    if len(lines) > named:
        yield replace(defects[0], line=0, detail=f"and {len(lines) - named} more lines like these")
    yield from lines[:named]


def _judge(training: list[Texts], evaluation: list[Texts], limits: DatasetLimits) -> Iterator[Defect]:
    taught = {id(file): labels.of(file) for file in training}
    keys = {id(file): repeats.essences(file.prompts) for file in training}
    yield from phrases.judge([file.source for file in (*training, *evaluation)])
    for file in (*training, *evaluation):
        yield from _empty(file)
        yield from _equal_answers(file)
        yield from market.judge_pairs(file)
    for file in training:
        yield from labels.judge(file, taught[id(file)], limits.max_class_share)
    for preferences in (True, False):
        files = [file for file in training if (file.source.schema is Schema.PREFERENCE) is preferences]
        if files:
            mine, said = [keys[id(file)] for file in files], [taught[id(file)] for file in files]
            yield from repeats.judge(files, mine, said, limits.max_duplicate_share)
    if evaluation:
        yield from repeats.unlike_evaluation(frozenset(chain(*keys.values())), evaluation)
    yield from market.judge_dates(training, evaluation)


def _empty(file: Texts) -> Iterator[Defect]:
    columns = {"prompt": file.prompts, "answer": file.answers, "rejected answer": file.rejected}
    for what, column in columns.items():
        if "" in column or any(map(str.isspace, column)):
            blank = (row for row, text in enumerate(column) if not text.strip())
            yield from (file.defect(row, "empty_turn", f"the {what} is empty") for row in blank)


def _equal_answers(file: Texts) -> Iterator[Defect]:
    for row, (chosen, rejected) in enumerate(zip(file.answers, file.rejected, strict=False)):
        if chosen.strip() == rejected.strip():
            yield file.defect(row, "chosen_equals_rejected", "there is nothing to prefer")
