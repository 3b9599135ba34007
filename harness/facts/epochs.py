"""Epochs of a training: rows that its steps learn from, by job or by its own words, against those that it has. Pure."""

from __future__ import annotations

import math
from typing import Any, Final

from harness.core.observed import CouldNotLook
from harness.job.model import Job
from harness.log.grammar import Trainer
from harness.log.summary import LogSummary, TrainerLog
from harness.log.trainerstate import TrainerState

_ROUNDED: Final = 0.005
"""Half of the last digit of an epoch in a record: older versions of transformers print two digits behind the point."""

_ABOUT: Final = 0.99
"""Share of a number of samples down to which it is the same: it is the product of two rounded ones."""


def shortfall(job: Job, trainer: Trainer, rows_a_step: int) -> str | None:
    """The rows that a trainer's planned steps do not come to, in words; None when they come to all that is demanded."""
    steps, rows, least = job.training.steps[trainer], job.data.rows[trainer], job.limits.min_epochs
    seen = steps * rows_a_step
    if seen >= least * rows:
        return None
    need = math.ceil(least * rows / max(rows_a_step, 1))
    return (
        f"{trainer}: {steps} steps of {rows_a_step} rows see {seen} of {rows} rows, {seen / rows:.2f} epochs; "
        f"limits.min_epochs = {least:g} needs {need} steps"
    )


def announced(job: Job, trainer: Trainer, log: LogSummary, run: Any = None) -> str | None:
    """Problem with the rows that a run with the contract's lines says that it takes; ``run``: its run.json, if any.

    Raises CouldNotLook when neither says it.
    """
    told, planned, said = rows_a_step(trainer, log, run), job.training.rows_a_step(trainer), log.of(trainer).epochs
    if told is None:
        raise CouldNotLook(f"neither the log nor run.json says how many rows a step of {trainer} takes")
    if said is not None and said.rows != job.data.rows[trainer]:
        return f"{trainer}: it has {said.rows} rows, the job has {job.data.rows[trainer]}"
    if planned and told != planned:
        return f"{trainer}: a step takes {told} rows, {planned} are planned (batch_size x accumulation)"
    return shortfall(job, trainer, told)


def rows_a_step(trainer: Trainer, log: LogSummary, run: Any = None) -> int | None:
    """Rows of a step by the log or, where that does not begin with the training, by run.json."""
    if (told := log.rows_a_step(trainer)) is not None or not isinstance(run, dict):
        return told
    by_trainer = run.get("rows_a_step")
    stated = by_trainer.get(trainer) if isinstance(by_trainer, dict) else run.get("batch_size")
    return stated if type(stated) is int else None


def coming(said: TrainerLog) -> float | None:
    """The most epochs to which a trainer's own records can come at its last step; None where they do not tell."""
    records, last = said.records, said.last
    if records is None or last is None or not records.numbered or records.total is None or records.epochs is None:
        return None
    return (records.epochs + _ROUNDED) * records.total / last.step


def recorded(job: Job, trainer: Trainer, said: TrainerLog, state: TrainerState | None) -> str | None:
    """Problem with the epochs that an unmodified trainer recorded, in its last checkpoint or at the end of its log.

    Raises CouldNotLook where nothing tells them, and where they are epochs of fewer rows than the job has.
    """
    records, rows, least = said.records, job.data.rows[trainer], job.limits.min_epochs
    planned = job.training.steps[trainer] * job.training.rows_a_step(trainer) or None
    epochs = state.epochs if state is not None and state.epochs is not None else records.epochs if records else None
    if epochs is None:
        if planned is None:
            raise CouldNotLook(f"neither the log nor trainer_state.json tells an epoch of {trainer}")
        return shortfall(job, trainer, job.training.rows_a_step(trainer))
    # What a last, incomplete step leaves out (drop_last, and transformers with accumulation) is no shortfall.
    if epochs * (1 + 1 / job.training.steps[trainer]) < least:
        return f"{trainer}: it went {epochs:.4g} times through its rows, limits.min_epochs = {least:g}"
    samples = records.samples if records is not None and records.samples is not None else planned
    if samples is not None and samples / epochs < _ABOUT * min(least, 1.0) * rows:
        raise CouldNotLook(
            f"{trainer}: an epoch of it is about {samples / epochs:.0f} rows, the job has {rows}: packed, "
            "split off, left out, or a stream whose epochs mean nothing"
        )
    return None
