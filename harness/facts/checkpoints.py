"""Complete checkpoints on the box: by their files and a parse, never by their directory's name. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from harness.artifacts.checkpoint import ADAPTER
from harness.core.answers import BoxCheckpoint


def problems(checkpoint: BoxCheckpoint) -> tuple[str, ...]:
    """Reasons why the training of an adapter should not go on from a checkpoint; empty when it can."""
    other = () if ADAPTER in checkpoint.files else (f"{ADAPTER} is missing",)
    return tuple(dict.fromkeys((*checkpoint.problems, *checkpoint.unread, *checkpoint.unfit, *other)))


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
