"""Rules on the words of the texts: values never rendered, values that are no numbers, told outcomes. Pure.

Generated rows are a few templates with other numbers in them. So the costly patterns are not run over
every row, but over the distinct pieces of text that remain when the digits are taken out; only when a
rule does not like one of those are the rows judged field by field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from harness.artifacts.dataset.rows import Defect, Rows
from harness.artifacts.dataset.texts import turns
from harness.core.text import printable


@dataclass(frozen=True, slots=True)
class _Rule:
    """A pattern on a field's text, and the looser one that finds it in text without digits and signs."""

    name: str
    exact: re.Pattern[str]
    loose: re.Pattern[bytes]
    only_in: frozenset[str] = frozenset()
    says: str = ""


_PROMPTS: Final = frozenset({"prompt", "instruction", "input"})
_VERBS: Final = "rose|fell|gained|lost|climbed|dropped|advanced|declined|closed (?:higher|lower|up|down)"
_HINDSIGHT: Final = (
    r"\b(?:in|with) hindsight\b|\bas it turned out\b"
    r"|\b(?:actual|realized|realised|eventual|subsequent|future|forward) (?:outcome|result|return|move|direction|close)"
    r"(?: over [^.:\n]{1,40})?\s*(?::|=|was\b|were\b)"
    rf"|\b(?:next|following) (?:day|session|week|month),? (?:the |it |price |rate |pair ){{0,3}}(?:{_VERBS})\b"
    rf"|\b(?:then|subsequently|afterwards) (?:{_VERBS})\b"
)
_RULES: Final = (
    _Rule(
        "unrendered_value",
        re.compile(
            r"\{[\w.\[\]]*(?:![rsa])?:[0-9<>=^+#,_-]*(?:\.\d+[deEfFgGsx%]?|[deEfFgGsx%]|[<>^]\d+)\}|\{[\w.\[\]]*![rsa]\}"
            r"|(?<![\w}\\^$])\{[a-z_][a-z0-9_.]{2,}\}|\{\{ ?[a-z_][^{}]{0,80}\}\}"
            r"|%[-+#0]?\d*(?:\.\d+)?[sdfeg](?![A-Za-z0-9])"
        ),
        re.compile(
            rb"\{[\w.\[\]'\"\\]*(?:![rsa])?(?::[^{}\"]{0,12})?\}|\{\{ ?[a-z_][^{}]{0,80}\}\}|%#?\.?[sdfeg](?![A-Za-z])"
        ),
        says="a placeholder was never filled in",
    ),
    _Rule(
        "not_a_number",
        re.compile(r"(?<![A-Za-z0-9_])(?:nan|NaN|NAN|inf|Inf|INF|Infinity|NaT)(?![A-Za-z0-9_])"),
        re.compile(rb"(?<![A-Za-z_])(?:nan|NaN|NAN|inf|Inf|INF|Infinity|NaT)(?![A-Za-z_])"),
        says="a value that could not be computed",
    ),
    _Rule(
        "outcome_stated",
        re.compile(_HINDSIGHT, re.IGNORECASE),
        re.compile(_HINDSIGHT.encode(), re.IGNORECASE),
        says="it tells what happened afterwards",
    ),
    _Rule(
        "outcome_stated",
        re.compile(r"\b(?:outcome|ground truth|correct answer|label)\s*[:=]\s*(?=[\w+-])", re.IGNORECASE),
        re.compile(rb"\b(?:outcome|ground truth|correct answer|label)\s*[:=]", re.IGNORECASE),
        only_in=_PROMPTS,
        says="the prompt tells the answer",
    ),
)


def judge(sources: Sequence[Rows]) -> Iterator[Defect]:
    """Every row that one of the rules does not like."""
    pieces = frozenset[bytes]().union(*(source.pieces for source in sources))
    for rule in _RULES:
        suspect = frozenset(filter(rule.loose.search, pieces))
        for source in sources:
            if not suspect.isdisjoint(source.pieces):
                yield from _exactly(source, rule)


def _exactly(source: Rows, rule: _Rule) -> Iterator[Defect]:
    for line, row in zip(source.lines, source.rows, strict=True):
        for place, text in turns(row):
            match = rule.exact.search(text) if not rule.only_in or place in rule.only_in else None
            if match is not None:
                around = printable(text[max(0, match.start() - 30) : match.end() + 30].replace("\n", " "), 120)
                yield Defect(source.name, line, rule.name, f"{place}: {rule.says}: … {around} …")
                break
