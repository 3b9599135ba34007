"""Complete checkpoints on the box: by their files and a parse, never by their directory's name. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from harness.artifacts.checkpoint import ADAPTER
from harness.core.answers import BoxCheckpoint
from harness.job.model import Job


def problems(checkpoint: BoxCheckpoint) -> tuple[str, ...]:
    """Reasons why the training should not go on from a checkpoint; empty when it can."""
    return tuple(dict.fromkeys((*checkpoint.problems, *checkpoint.unread, *checkpoint.unfit)))


def of_job(job: Job, found: Iterable[BoxCheckpoint]) -> tuple[BoxCheckpoint, ...]:
    """Checkpoints as this job's training writes them: one of an adapter without its weights lacks them."""
    lacks = (f"{ADAPTER} is missing",) if job.model.lora_r else ()
    return tuple(
        one if ADAPTER in one.files or not lacks else replace(one, problems=(*one.problems, *lacks)) for one in found
    )


def in_order(checkpoints: Iterable[BoxCheckpoint]) -> tuple[BoxCheckpoint, ...]:
    """Checkpoints by their step, ascending."""
    return tuple(sorted(checkpoints, key=lambda one: one.step))


def complete_steps(checkpoints: Iterable[BoxCheckpoint]) -> tuple[int, ...]:
    """The steps of the complete ones, ascending."""
    return tuple(sorted(one.step for one in checkpoints if not problems(one)))


def due_steps(last_step: int, every: int, total: int) -> tuple[int, ...]:
    """The steps at which a checkpoint must exist once ``last_step`` was reached: every so many, and the last."""
    due = list(range(every, last_step + 1, every))
    if last_step >= total and (not due or due[-1] != total):
        due.append(total)
    return tuple(due)
