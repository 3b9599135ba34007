"""Rules on rows that repeat each other: duplicates, contradictions, and evaluation rows seen in training. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from harness.artifacts.dataset.contract import Schema
from harness.artifacts.dataset.rows import Defect
from harness.artifacts.dataset.texts import Texts

_MIN_DIGITS: Final = 24  # so many digits in the same order are the same data in other words
_NOT_DIGITS: Final = bytes(sorted(set(range(256)) - set(b"0123456789")))
_CASE: Final = bytes(range(256)).lower()
_NOT_LETTERS: Final = bytes(
    sorted(set(range(128)) - set(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-."))
)


def judge(
    files: Sequence[Texts], keys: Sequence[Sequence[bytes]], labels: Sequence[Sequence[str]], share: float
) -> Iterator[Defect]:
    """Duplicates beyond a share of all rows, and equal prompts with other labels, over files of one kind.

    ``keys`` (the essences of the prompts) and ``labels`` are parallel to the files' rows; a file whose rows have
    no labels has none.
    """
    total = sum(len(file.prompts) for file in files)
    if len(set().union(*keys)) == total:
        return  # no two prompts have even their data in common
    exact = list(_repeated(files))
    if len(exact) > share * total:
        yield from exact
    for file, column in zip(files, keys, strict=True):
        near = list(_near(file, column))
        if len(near) > share * len(file.prompts):
            yield from near
    yield from _contradictions(files, labels)


def unlike_evaluation(seen: AbstractSet[bytes], evaluation: Sequence[Texts]) -> Iterator[Defect]:
    """Evaluation rows whose prompt, or the data in it, is in the training rows: their essences are ``seen``."""
    for file in evaluation:
        for row, key in enumerate(essences(file.prompts)):
            if key in seen:
                yield file.defect(row, "evaluation_row_in_training", "the same prompt is among the training rows")


def essences(prompts: Sequence[str]) -> list[bytes]:
    """Keys that near duplicates share: the digits in their order, or, of text with few, the letters in lower case."""
    keys = [prompt.encode("utf-8", "surrogatepass").translate(None, _NOT_DIGITS) for prompt in prompts]
    for row, key in enumerate(keys):
        if len(key) < _MIN_DIGITS:
            keys[row] = prompts[row].encode("utf-8", "surrogatepass").translate(_CASE, _NOT_LETTERS)
    return keys


def _repeated(files: Sequence[Texts]) -> Iterator[Defect]:
    first: dict[tuple[str, ...], Defect] = {}
    for file in files:
        columns = [column for column in (file.prompts, file.answers, file.rejected) if column]
        for row, key in enumerate(zip(*columns, strict=True)):
            here = file.defect(row, "duplicate", "")
            before = first.setdefault(key, here)
            if before is not here:
                yield file.defect(row, "duplicate", f"the same row as {before.file}:{before.line}")


def _near(file: Texts, keys: Sequence[bytes]) -> Iterator[Defect]:
    first: dict[bytes, int] = {}
    for row, key in enumerate(keys if file.answers else ()):
        before = first.setdefault(key, row)
        pairs_or_words = file.source.schema is Schema.PREFERENCE or not key.isdigit()
        if pairs_or_words and file.prompts[before] == file.prompts[row]:
            continue  # several pairs, or several answers in words, for one prompt are how they are collected
        if before != row and (file.prompts[before], file.answers[before]) != (file.prompts[row], file.answers[row]):
            line = file.source.lines[before]
            yield file.defect(row, "near_duplicate", f"the same data as line {line}, in other words")


def _contradictions(files: Sequence[Texts], labels: Sequence[Sequence[str]]) -> Iterator[Defect]:
    stated: dict[str, dict[str, Defect]] = defaultdict(dict)
    for file, column in zip(files, labels, strict=True):
        if file.rejected:
            yield from _reversed(file)
        for row, label in enumerate(column):
            here = file.defect(row, "contradiction", label)
            known = stated[file.prompts[row]]
            other = next((defect for text, defect in known.items() if text != label), None)
            known.setdefault(label, here)
            if other is not None:
                yield file.defect(
                    row, "contradiction", f"answers {label!r}, {other.file}:{other.line} answers {other.detail!r}"
                )


def _reversed(file: Texts) -> Iterator[Defect]:
    preferred = {(file.prompts[row], chosen): row for row, chosen in enumerate(file.answers)}
    for row, rejected in enumerate(file.rejected):
        other = preferred.get((file.prompts[row], rejected))
        if other is not None and other != row:
            line = file.source.lines[other]
            yield file.defect(row, "contradiction", f"rejects what line {line} chooses for the same prompt")
