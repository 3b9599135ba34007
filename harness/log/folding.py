"""The log of unmodified trainers as the same summary that the contract's lines give, as far as they tell. Pure.

A job says which trainers run and how many steps each has; the log says neither its trainers' names nor when a launch
began again. A training is of the trainer whose kind (preferences or not) and whose number of steps fit, in the job's
order. Nothing is filled in: what nobody logged stays empty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.log import bare, launches
from harness.log.bare import BareTraining
from harness.log.errors import ErrorLine, error_line
from harness.log.grammar import DPO, DataAnnounced, Resumed, StageComplete, Step, Trainer, lines
from harness.log.proof import ProofLine
from harness.log.summary import ByRecords, LogSummary, RestsOn, TrainerLog, trainer_log

_Said = Step | Resumed | StageComplete


@dataclass(slots=True)
class _Part:
    """One trainer's words, over all attempts, and the training of it that was the last."""

    last: BareTraining
    said: list[_Said] = field(default_factory=list)
    steps: dict[int, float] = field(default_factory=dict)
    """Epoch by step, of the records that count."""


def read(data: bytes, planned: Mapping[Trainer, int], proof: ProofLine | None, *, torn_end: bool = True) -> LogSummary:
    """Summarise a log's bytes; ``planned``: the job's steps by trainer, in their order."""
    return fold([*lines(data, torn_end=torn_end)], planned, proof)


def fold(clean: Sequence[str], planned: Mapping[Trainer, int], proof: ProofLine | None) -> LogSummary:
    """Summarise clean lines."""
    trainings = bare.read(clean)
    attempts = _attempts(trainings, planned)
    marks = [(at, told) for at, line in enumerate(clean) if (told := launches.read(line)) is not None]
    begins = marks[-1][0] if marks else attempts[-1][0][1].begins_at if len(attempts) > 1 else 0
    found = [(at, error) for at, line in enumerate(clean) if (error := error_line(line)) is not None]
    parts: dict[Trainer, _Part] = {}
    for trainer, training in (pair for attempt in attempts for pair in attempt):
        _add(parts.setdefault(trainer, _Part(training)), trainer, training, planned[trainer])
    trainers = {trainer: _log(parts[trainer]) for trainer in planned if trainer in parts}
    rows = [row for line in clean[begins:] if proof is not None and (row := proof.read(line)) is not None]
    return LogSummary(
        rests_on=RestsOn.TRAINER,
        launches=tuple(told for _, told in marks),
        attempts=len(attempts),
        data=DataAnnounced(rows[-1]) if rows else None,
        trainers=trainers,
        errors=_of(found, begins, len(clean)),
        earlier_errors=_of(found, 0, begins),
        complete=all(trainer in trainers and trainers[trainer].complete for trainer in planned),
    )


def _of(found: Sequence[tuple[int, ErrorLine]], first: int, end: int) -> tuple[ErrorLine, ...]:
    return tuple(error for at, error in found if first <= at < end)


_Attempt = list[tuple[Trainer, BareTraining]]


def _attempts(trainings: Sequence[BareTraining], planned: Mapping[Trainer, int]) -> list[_Attempt]:
    """The trainings by attempt, each with its trainer: where no launch is marked, one begins as the order goes back."""
    order = list(planned)
    attempts: list[_Attempt] = []
    for training in trainings:
        before = attempts[-1][-1] if attempts else None
        anew = before is None or training.launch != before[1].launch
        fits = _fitting(training, planned)
        if before is None or anew:
            trainer, anew = fits[0], True
        else:
            ended = before[1].ended or _at_end(before[1], planned[before[0]])
            later = [one for one in fits if order.index(one) > order.index(before[0])]
            trainer = later[0] if ended and later else fits[0]
            anew = not later or not ended
        if anew:
            attempts.append([])
        attempts[-1].append((trainer, training))
    return attempts


def _fitting(training: BareTraining, planned: Mapping[Trainer, int]) -> list[Trainer]:
    """The trainers that a training may be of; all of one kind where nothing tells more."""
    kind = [trainer for trainer in planned if (trainer == DPO) == (training.trainer == DPO)] or list(planned)
    return [trainer for trainer in kind if planned[trainer] == training.total] or kind


def _at_end(training: BareTraining, planned: int) -> bool:
    return training.numbered and training.log.steps[-1].step >= (training.total or planned)


def _add(part: _Part, trainer: Trainer, training: BareTraining, planned: int) -> None:
    """Say of a trainer what one more of its trainings said; one that begins beyond the first step went on."""
    steps, before = training.log.steps, part.steps
    epochs = [entry.get("epoch", math.nan) for entry in training.entries]
    if not training.numbered and before:  # the records of an earlier attempt that this one did not log again
        kept = sum(epoch < epochs[0] for epoch in before.values())
        steps = tuple(replace(step, step=step.step + kept) for step in steps)
    total = training.total or planned
    steps = tuple(replace(step, trainer=trainer, total=total) for step in steps)
    if before and steps[0].step > min(before):
        part.said.append(Resumed(trainer, steps[0].step - 1, ""))
    part.said += steps
    done = max(steps[-1].step, training.reached) if training.numbered else steps[-1].step
    if training.ended or (training.numbered and done >= total):
        part.said.append(StageComplete(trainer, done, total))
    part.steps = {step: epoch for step, epoch in before.items() if step < steps[0].step} | {
        step.step: epoch for step, epoch in zip(steps, epochs, strict=True)
    }
    part.last = training


def _log(part: _Part) -> TrainerLog:
    last = part.last
    flat = sum(spread == 0 for spread in last.all("reward_std")) if last.by_rewards else None
    margins, total = last.all("rewards/margins"), last.total
    records = ByRecords(last.numbered, total, last.reached, margins, flat, last.epochs, last.samples)
    return replace(trainer_log(part.said), records=records)
