"""Progress of a training by its log: steps done and in total, and the time that is left of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.log.grammar import Trainer
from harness.log.summary import LogSummary, RestsOn


@dataclass(frozen=True, slots=True)
class TrainingPace:
    """Steps of all trainers together, done and in total; the newest loss and learning rate, and whose they are.

    ``left_s``: seconds that the remaining steps take.
    """

    step: int
    total: int
    left_s: float
    trainer: Trainer | None = None
    loss: float | None = None
    learning_rate: float | None = None


def pace(log: LogSummary, job_steps: Mapping[Trainer, int], expected: Mapping[Trainer, float]) -> TrainingPace | None:
    """Progress of the present attempt; None before it has announced its steps, and where nothing tells them.

    ``job_steps`` are those of the job, in the order in which its trainers run; an unmodified one announces none of its
    own. ``expected``: seconds of a step, as in ``seconds_left``.
    """
    if log.plan is not None:
        planned = {trainer: log.plan.steps[trainer] for trainer in job_steps if trainer in log.plan.steps}
    elif log.rests_on is RestsOn.TRAINER and log.trainers and all(one.numbered for one in log.trainers.values()):
        planned = dict(job_steps)
    else:
        return None
    left = steps_left(log, planned)
    newest = next((last for trainer in reversed(tuple(planned)) if (last := log.of(trainer).last) is not None), None)
    return TrainingPace(
        step=sum(planned.values()) - sum(left.values()),
        total=sum(planned.values()),
        left_s=seconds_left(log, left, expected),
        trainer=newest.trainer if newest else None,
        loss=newest.loss if newest else None,
        learning_rate=newest.lr if newest else None,
    )


def steps_left(log: LogSummary, planned: Mapping[Trainer, int]) -> dict[Trainer, int]:
    """Steps that each trainer has still to do, of those ``planned``."""
    return {trainer: max(0, total - _done(log, trainer)) for trainer, total in planned.items()}


def seconds_left(log: LogSummary, left: Mapping[Trainer, int], expected: Mapping[Trainer, float]) -> float:
    """Seconds that steps take: each as long as its trainer's newest logged ones, else as ``expected``."""
    return sum(count * (log.of(trainer).s_per_step or expected[trainer]) for trainer, count in left.items())


def _done(log: LogSummary, trainer: Trainer) -> int:
    """Steps that a trainer has done: by its newest step, the end that it stated, or what it went on from."""
    said = log.of(trainer)
    if not said.numbered:
        return said.complete.total if said.complete else 0
    bar = said.records.reached if said.records else 0
    resumed = said.resumes[-1].at if said.resumes else 0
    return max(said.last.step if said.last else 0, said.complete.step if said.complete else 0, resumed, bar)
