"""The training log on the box: its questions, and its bytes folded into a summary."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from harness.facts.box import Text
from harness.facts.desk import Desk
from harness.facts.reading import attempt, typed
from harness.log import summary
from harness.observed import CouldNotLook, Observed
from harness.ports import Answers, Question

_PART_BYTES = 3 << 20
"""The log of a whole run takes about 60 kB; of a larger one its two ends are read."""


@dataclass(frozen=True, slots=True)
class _Tail:
    exists: bool
    bytes: int = 0
    mtime: float = 0.0
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Now:
    time: float


def log_path(desk: Desk) -> str:
    """Where the training's output is kept on the box."""
    return posixpath.join(desk.job.package.remote_dir, "training.log")


def questions(desk: Desk) -> list[Question]:
    """What to ask for: both ends of the log, and the box's clock."""
    path = log_path(desk)
    return [
        Question("log_head", "read_text", {"path": path, "limit": _PART_BYTES}),
        Question("log_tail", "tail", {"path": path, "lines": 20000, "limit": _PART_BYTES}),
        Question("box_now", "now"),
    ]


def log_of(answers: Answers) -> Observed[summary.LogSummary]:
    """The log folded into a summary; a log that is not there was not seen."""
    return attempt(lambda: summary.read(_text(answers).encode()))


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
    head = typed(answers.get("log_head"), Text).get()
    if not head.exists:
        raise CouldNotLook("there is no training.log on the box")
    return head.text if not head.truncated else head.text + "\n" + "\n".join(_tail(answers).lines[1:])
