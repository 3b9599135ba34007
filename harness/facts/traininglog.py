"""The training log on the box: its questions, and its lines folded into a summary."""

from __future__ import annotations

import posixpath
from typing import NamedTuple, TypeVar

from harness.context import JobContext
from harness.core.answers import Excerpt, Tail
from harness.core.observed import CouldNotLook, Observed
from harness.core.questions import Answers, ExcerptOf, Now, TailOf
from harness.facts.reading import attempt
from harness.job.model import Job
from harness.log import bare, bars, folding, grammar, summary

T = TypeVar("T", Tail, Excerpt)
_EXCERPT_BYTES = 2 << 20
"""As JSON, of the lines that matter: more than 20000 logged steps. All questions of one look share 4 MiB."""

_LAST_LINES = 20
_LAST_BYTES = 32 << 10


def log_path(context: JobContext) -> str:
    """Path of the training's output on the box."""
    return posixpath.join(context.job.package.remote_dir, "training.log")


def questions(context: JobContext) -> LogQuestions:
    """Questions for the box: its clock, the last lines of any kind, and the lines that the log's grammar reads."""
    path, proof = log_path(context), context.job.data.proof
    if context.job.unmodified:
        excerpt = ExcerptOf(path, grammar.matters(proof, bare.CUES), bare.PLENTY, _EXCERPT_BYTES, bars.FLEETING)
    else:
        excerpt = ExcerptOf(path, grammar.matters(proof), grammar.PLENTY, _EXCERPT_BYTES)
    return LogQuestions(Now(), TailOf(path, _LAST_LINES, _LAST_BYTES), excerpt)


def summary_of(job: Job, data: bytes, *, torn_end: bool = True) -> summary.LogSummary:
    """Summary of a job's log, by the lines that it is read by; see ``grammar.lines`` for ``torn_end``."""
    if job.unmodified:
        return folding.read(data, job.training.steps, job.data.proof, torn_end=torn_end)
    return summary.read(data, job.data.proof, torn_end=torn_end)


class LogQuestions(NamedTuple):
    """The questions about a training's log, and what their answers say together."""

    now: Now
    tail: TailOf
    excerpt: ExcerptOf

    def summary_of(self, answers: Answers, job: Job) -> Observed[summary.LogSummary]:
        """The log folded into a summary; a log that is not there was not seen."""
        return attempt(lambda: summary_of(job, _text(_there(answers[self.excerpt].get()))))

    def age_s(self, answers: Answers) -> Observed[float]:
        """Seconds since the log last grew, by the box's own clock."""
        return attempt(lambda: max(0.0, answers[self.now].get().time - _there(answers[self.tail].get()).mtime))

    def last_lines(self, answers: Answers) -> Observed[tuple[str, ...]]:
        """The newest lines of the log."""
        return attempt(lambda: _there(answers[self.tail].get()).lines)


def _there(log: T) -> T:
    if not log.exists:
        raise CouldNotLook("there is no training.log on the box")
    return log


def _text(excerpt: Excerpt) -> bytes:
    return "".join(f"{line}\n" for line in excerpt.lines).encode(errors="replace")
