"""The training log on the box: its questions, and its lines folded into a summary."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from harness.context import JobContext
from harness.core.observed import CouldNotLook, Observed
from harness.core.ports import Answers, Json, Question
from harness.facts.reading import attempt, typed
from harness.log import grammar, summary

_EXCERPT_BYTES = 2 << 20
"""As JSON, of the lines that matter: more than 20000 logged steps. All questions of one look share 4 MiB."""

_LAST_BYTES = 32 << 10


@dataclass(frozen=True, slots=True)
class _Tail:
    exists: bool
    bytes: int = 0
    mtime: float = 0.0
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Excerpt:
    exists: bool
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Now:
    time: float


def log_path(context: JobContext) -> str:
    """Where the training's output is kept on the box."""
    return posixpath.join(context.job.package.remote_dir, "training.log")


def questions(context: JobContext) -> list[Question]:
    """What to ask for: the lines that the log's grammar reads, the last ones of any kind, and the box's clock."""
    path = log_path(context)
    wanted: dict[str, Json] = {
        "pattern": grammar.matters(context.job.data.proof),
        "plenty": grammar.PLENTY,
        "limit": _EXCERPT_BYTES,
    }
    return [
        Question("box_now", "now"),
        Question("log_tail", "tail", {"path": path, "lines": 20, "limit": _LAST_BYTES}),
        Question("log", "excerpt", {"path": path, **wanted}),
    ]


def log_of(context: JobContext, answers: Answers) -> Observed[summary.LogSummary]:
    """The log folded into a summary; a log that is not there was not seen."""
    return attempt(lambda: summary.read(_text(answers).encode(errors="replace"), context.job.data.proof))


def log_age_s(answers: Answers) -> Observed[float]:
    """Seconds since the log last grew, by the box's own clock."""
    return attempt(lambda: max(0.0, typed(answers.get("box_now"), _Now).get().time - _tail(answers).mtime))


def last_lines(answers: Answers, count: int) -> tuple[str, ...]:
    """The newest lines of the log."""
    return _tail(answers).lines[-count:]


def _tail(answers: Answers) -> _Tail:
    tail = typed(answers.get("log_tail"), _Tail).get()
    if not tail.exists:
        raise CouldNotLook("there is no training.log on the box")
    return tail


def _text(answers: Answers) -> str:
    found = typed(answers.get("log"), _Excerpt).get()
    if not found.exists:
        raise CouldNotLook("there is no training.log on the box")
    return "".join(f"{line}\n" for line in found.lines)
