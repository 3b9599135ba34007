"""Defects that make rows unfit to train on: one call over all files, one finding a rule and file. Pure.

It cannot see whether a label is true, nor near duplicates that differ in their numbers.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Final

from harness.artifacts.dataset import labels, market, phrases, repeats, texts
from harness.artifacts.dataset.contract import Schema
from harness.artifacts.dataset.rows import Defect, Rows
from harness.artifacts.dataset.texts import Texts

NAMED: Final = 5
"""Lines that a finding names."""

_WORDS: Final = frozenset(
    """
    answer_in_prompt chosen_equals_rejected damaged_text error_as_answer not_a_number outcome_stated
    prompt_in_answer turn_marks unrendered_value
    """.split()  # noqa: SIM905 - a table is read as one
)
"""Rules on words, which a sound row may break by what it speaks of: they count by their share of the rows."""

_NUMBERS: Final = re.compile(r"\d+")
_LONG: Final = 40  # characters; a shorter prompt may well begin its answer


@dataclass(frozen=True, slots=True)
class DatasetLimits:
    """Limits of what is sound: shares of rows between 0 and 1.

    ``ignore`` names rules that a job does without, for data to which they do not apply.
    """

    max_duplicate_share: float = 0.01
    max_class_share: float = 0.9
    max_flawed_share: float = 0.01
    ignore: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Flaw:
    """One rule that rows of a file break: the first lines, their number, and what the first of them shows.

    ``beyond`` is False for what is only said, being within its limit. A flaw of the file as a whole has no lines.
    """

    file: str
    rule: str
    detail: str
    lines: tuple[int, ...]
    count: int
    rows: int
    beyond: bool = True

    def __str__(self) -> str:
        """``pairs.jsonl:17: rule: 3 of 40 rows (7.5%): detail (lines 17, 20, 31)``."""
        if not self.lines:
            return f"{self.file}: {self.rule}: {self.detail}"
        told = (
            f"{self.file}:{self.lines[0]}: {self.rule}: {self.count} of {self.rows} rows ({self.count / self.rows:.1%})"
        )
        more = ", ..." if self.count > len(self.lines) else ""
        where = f" (lines {', '.join(map(str, self.lines))}{more})" if self.count > 1 else ""
        return f"{told}: {self.detail}{where}"


def judge(
    training: Sequence[Rows], evaluation: Sequence[Rows] = (), limits: DatasetLimits | None = None
) -> tuple[Flaw, ...]:
    """Every rule that the rows which were read break (the lines that are no rows are ``Rows.defects``)."""
    limits = limits or DatasetLimits()
    train, evaluate = [texts.of(rows) for rows in training], [texts.of(rows) for rows in evaluation]
    found = [defect for defect in _judge(train, evaluate, limits) if defect.rule not in limits.ignore]
    counts: dict[str, int] = defaultdict(int)
    for rows in (*training, *evaluation):
        counts[rows.name] += len(rows.rows)
    return flaws(found, counts, limits.max_flawed_share)


def flaws(defects: Iterable[Defect], rows: dict[str, int], share: float = 0.0) -> tuple[Flaw, ...]:
    """Defects told once a rule and file, by file and rule. ``rows`` is the number of rows in each file.

    Lines that are no rows are told once a reason.
    """
    together: dict[tuple[str, str, str], list[Defect]] = defaultdict(list)
    for defect in defects:
        reason = _NUMBERS.sub("", defect.detail) if defect.rule in {"json", "schema"} else ""
        together[defect.file, defect.rule, reason].append(defect)
    told = []
    for (file, rule, _), found in sorted(together.items()):
        first = min(found, key=lambda defect: defect.line)
        lines = sorted({defect.line for defect in found if defect.line})
        beyond = rule not in _WORDS or len(lines) > share * rows[file]
        told.append(Flaw(file, rule, first.detail, tuple(lines[:NAMED]), len(lines), rows[file], beyond))
    return tuple(told)


def _judge(training: list[Texts], evaluation: list[Texts], limits: DatasetLimits) -> Iterator[Defect]:
    taught = {id(file): labels.of(file) for file in training}
    keys = {id(file): repeats.essences(file.prompts) for file in training}
    yield from phrases.judge([file.source for file in (*training, *evaluation)])
    for file in (*training, *evaluation):
        yield from _equal_answers(file)
        yield from _repeated_prompts(file)
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


def _equal_answers(file: Texts) -> Iterator[Defect]:
    for row, (chosen, rejected) in enumerate(zip(file.answers, file.rejected, strict=False)):
        if _last(chosen) == _last(rejected) and _bare(chosen) == _bare(rejected):
            yield file.defect(row, "chosen_equals_rejected", "there is nothing to prefer but white space or case")


def _last(text: str) -> str:
    return text.rstrip()[-1:].casefold()


def _bare(text: str) -> str:
    return "".join(text.split()).casefold()


def _repeated_prompts(file: Texts) -> Iterator[Defect]:
    """Answers that begin with their prompt: the trainer puts the prompt before them once more."""
    for column in (file.answers, file.rejected):
        first_letters = (set(map(itemgetter(slice(1)), texts_)) for texts_ in (file.prompts, column))
        if not set.isdisjoint(*first_letters):
            for row, (prompt, answer) in enumerate(zip(file.prompts, column, strict=True)):
                asked = prompt.strip()
                if asked and answer.startswith(asked) and (len(asked) >= _LONG or answer.strip() == asked):
                    yield file.defect(row, "prompt_in_answer", "the answer repeats its prompt")
