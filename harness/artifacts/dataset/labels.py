"""Rules on the answer that a row teaches: classes that collapsed into one, answers that the prompt gives away. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice, repeat
from operator import contains
from typing import Final

from harness.artifacts.dataset.rows import Defect
from harness.artifacts.dataset.texts import Texts

_SAMPLE: Final = 100
_SHORT: Final = 24  # characters; an answer of one such line is itself the label
_LONG: Final = 40  # characters; so long an answer is not in its prompt by chance
_MAX_CLASSES: Final = 50
_THOUGHT: Final = "</think>"
_WORD: Final = re.compile(r"[A-Za-z]{2,24}")
_STATED: Final = re.compile(
    r"^\W*((?:direction|signal|action|decision|answer|label|recommendation|bias|outlook|prediction|forecast|position|"
    r"verdict|trade|outcome)\W{0,4}[:=])\W*([A-Za-z]+)",
    re.IGNORECASE | re.MULTILINE,
)


def of(file: Texts) -> list[str]:
    """The label of every row, '' where none is stated; an empty list when the rows do not teach labels.

    It is the field ``label``, or what stands behind the word with which most answers announce it
    (``Direction: UP``), or the whole answer where all are one short word.
    """
    column = file.column("label")
    if column and not isinstance(file.source.rows[0]["label"], bool):  # a bool says whether the answer is liked
        return column
    sample = file.answers[:_SAMPLE]
    announced = Counter(first for text in sample for first in islice(_announcements(_spoken(text)), 1))
    if announced and announced.most_common(1)[0][1] * 2 > len(sample):
        return _behind(file.answers, announced.most_common(1)[0][0])
    spoken = [_spoken(answer).strip() for answer in sample]
    if spoken and all(len(text) <= _SHORT and " " not in text for text in spoken):
        return [_spoken(answer).strip() for answer in file.answers]
    return []


def judge(file: Texts, labels: Sequence[str], share: float) -> Iterator[Defect]:
    """One class beyond a share of all rows, and prompts that give the answer away."""
    classes = Counter(labels)
    stated = sum(classes.values()) - classes.pop("", 0)
    if stated and len(classes) <= _MAX_CLASSES:
        label, most = classes.most_common(1)[0]
        if most > share * stated:
            detail = f"{most} of {stated} rows ({most / stated:.1%}) answer {label[:40]!r}, at most {share:.1%} may"
            yield Defect(file.source.name, 0, "class_collapse", detail)
    given = {defect.line: defect for defect in (*_copied(file), *_given_away(file, labels, classes))}
    yield from given.values()


def _behind(answers: Sequence[str], announcement: str) -> list[str]:
    """The word behind the last announcement of each answer; most answers end with it, and many end alike."""
    end = len(announcement) + _SHORT
    tails = [answer[-end:] for answer in answers]
    different = set(tails)
    if not all(announcement in tail for tail in different):
        return [_word_behind(answer, announcement) for answer in answers]
    labels = {tail: _word_behind(tail, announcement) for tail in different}
    return [labels[tail] for tail in tails]


def _word_behind(answer: str, announcement: str) -> str:
    _, announced, tail = answer.rpartition(announcement)
    words = tail[:_SHORT].split(None, 1) if announced else ()
    return words[0].strip("*_`\"'.,;:!()[]").upper() if words else ""


def _given_away(file: Texts, labels: Sequence[str], classes: Mapping[str, int]) -> Iterator[Defect]:
    """A prompt that announces the row's own label; one that names other classes too only lists the choices.

    The announcing words are learned from a sample of prompts and answers: a leak is a template's, in many rows.
    """
    words = [word for word in classes if _WORD.fullmatch(word)] if len(classes) <= _MAX_CLASSES else []
    sample = file.prompts[:: max(1, len(file.prompts) // _SAMPLE)]
    told = set(chain.from_iterable(map(_announcements, (*sample, *map(_spoken, file.answers[:_SAMPLE])))))
    if not words or not told:
        return
    any_class = re.compile(r"\b(" + "|".join(words) + r")\b", re.IGNORECASE)
    for announcement in sorted(told):
        if not any(map(contains, file.prompts, repeat(announcement))):
            continue
        for row, prompt in enumerate(file.prompts):
            if announcement not in prompt or not labels[row]:
                continue
            behind = prompt.partition(announcement)[2][: _SHORT + _LONG]
            choices = [word.upper() for word in any_class.findall(behind)]
            if choices and set(choices) == {labels[row].upper()}:
                yield file.defect(row, "answer_in_prompt", f"the prompt says {announcement} {choices[0]}")


def _copied(file: Texts) -> Iterator[Defect]:
    if not any(map(contains, file.prompts, [answer[:_LONG] for answer in file.answers])):
        return
    for row, (prompt, answer) in enumerate(zip(file.prompts, file.answers, strict=True)):
        if answer[:_LONG] in prompt and len(answer) >= _LONG and answer in prompt:
            yield file.defect(row, "answer_in_prompt", "the whole answer is part of the prompt")


def _announcements(text: str) -> Iterator[str]:
    """Words that announce a label in the text, in order: ``_STATED`` tried where a line begins, nowhere else."""
    start, end = 0, -1
    while start > end:
        match = _STATED.match(text, start)
        if match is not None:
            yield match[1]
            start = match.end()
        end, start = start, text.find("\n", start) + 1


def _spoken(answer: str) -> str:
    """The answer without the reasoning before it."""
    return answer.rpartition(_THOUGHT)[2]
