"""What a training log amounts to: its events folded into the state of the run. Pure.

A run that died and was launched again writes on in the same log: lines repeat, steps go
back to the checkpoint that was resumed from, and an earlier failure is history. The
summary speaks of the present attempt, and keeps what a resume must be judged by.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Annotated, Final

from pydantic import AliasChoices, Field

from harness.log.grammar import (
    CheckpointSaved,
    DataAnnounced,
    ErrorLine,
    Event,
    FirstDpoLoss,
    GgufWritten,
    PassedOver,
    Plan,
    Resumed,
    StageComplete,
    Step,
    Trainer,
    TrainingComplete,
    TrainingFailed,
    lines,
    parse,
)
from harness.log.proof import ProofLine

_PACE_WINDOW: Final = 20  # logged steps; the first ones of a run include compilation and warm-up


@dataclass(frozen=True, slots=True)
class Resume:
    """A resume, and the logged steps on both sides of it (none when nothing was logged there)."""

    at: int
    before: Step | None
    after: Step | None


@dataclass(frozen=True, slots=True)
class TrainerLog:
    """One trainer's part of the log. ``steps`` are the ones that count: what a resume repeats is replaced."""

    steps: tuple[Step, ...] = ()
    saved: tuple[int, ...] = ()
    resumes: tuple[Resume, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()
    complete: StageComplete | None = None

    @property
    def last(self) -> Step | None:
        """The newest step."""
        return self.steps[-1] if self.steps else None

    @property
    def s_per_step(self) -> float | None:
        """The pace, seconds a step: the median of the newest logged steps."""
        recent = [step.s_per_step for step in self.steps[-_PACE_WINDOW:] if math.isfinite(step.s_per_step)]
        return median(recent) if recent else None


@dataclass(frozen=True, slots=True)
class LogSummary:
    """A whole log. ``errors`` are those of the present attempt, ``earlier_errors`` those of the attempts before."""

    attempts: int = 0
    data: Annotated[DataAnnounced | None, Field(validation_alias=AliasChoices("data", "v2"))] = None
    """In facts files of earlier versions: v2."""
    plan: Plan | None = None
    trainers: Mapping[Trainer, TrainerLog] = field(default_factory=dict)
    first_dpo_loss: float | None = None
    ggufs: tuple[GgufWritten, ...] = ()
    errors: tuple[ErrorLine, ...] = ()
    earlier_errors: tuple[ErrorLine, ...] = ()
    failed: str | None = None
    complete: bool = False

    def of(self, trainer: Trainer) -> TrainerLog:
        """One trainer's part; empty when it has not begun."""
        return self.trainers.get(trainer, TrainerLog())


def read(data: bytes, proof: ProofLine, *, torn_end: bool = True) -> LogSummary:
    """Summarise a log's bytes; see ``grammar.lines`` for ``torn_end``."""
    return summarise(parse(lines(data, torn_end=torn_end), proof))


def summarise(events: Iterable[Event]) -> LogSummary:
    """Fold events, in the order in which the log states them."""
    fold = _Fold()
    for event in events:
        fold.add(event)
    return fold.result()


@dataclass(slots=True)
class _Trainer:
    steps: dict[int, Step] = field(default_factory=dict)
    saved: dict[int, None] = field(default_factory=dict)
    resumes: list[Resume] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)
    complete: StageComplete | None = None

    def step(self, event: Step) -> None:
        if self.resumes and self.resumes[-1].after is None:
            self.resumes[-1] = Resume(self.resumes[-1].at, self.resumes[-1].before, event)
        self.rewind(event.step - 1)
        self.steps[event.step] = event

    def rewind(self, to: int) -> None:
        """Forget what was said of the steps beyond ``to``: they are trained again."""
        if self.steps and next(reversed(self.steps)) > to:
            self.steps = {number: step for number, step in self.steps.items() if number <= to}
        if self.complete is not None and self.complete.step > to:
            self.complete = None

    def resume(self, event: Resumed) -> None:
        self.rewind(event.step)
        before = next(reversed(self.steps.values()), None)
        self.resumes.append(Resume(event.step, before, None))


@dataclass(slots=True)
class _Fold:
    attempts: int = 0
    data: DataAnnounced | None = None
    plan: Plan | None = None
    trainers: dict[Trainer, _Trainer] = field(default_factory=dict)
    first_dpo_loss: float | None = None
    ggufs: dict[str, GgufWritten] = field(default_factory=dict)
    errors: list[ErrorLine] = field(default_factory=list)
    earlier_errors: list[ErrorLine] = field(default_factory=list)
    failed: str | None = None
    complete: bool = False

    def add(self, event: Event) -> None:
        match event:
            case DataAnnounced():
                self.begin(again=self.data is not None or bool(self.errors))
                self.data = event
            case Plan():
                self.begin(again=self.plan is not None)
                self.plan = event
            case TrainingComplete():
                self.complete = True
            case TrainingFailed():
                self.failed, self.complete = event.reason, False
            case ErrorLine():
                self.errors.append(event)
            case GgufWritten():
                self.ggufs[event.path] = event
            case FirstDpoLoss():
                self.first_dpo_loss = event.loss
            case _:
                self.add_to_trainer(event)

    def add_to_trainer(self, event: Step | CheckpointSaved | Resumed | PassedOver | StageComplete) -> None:
        trainer = self.trainers.setdefault(event.trainer, _Trainer())
        match event:
            case Step():
                trainer.step(event)
            case CheckpointSaved():
                trainer.saved[event.step] = None
            case Resumed():
                trainer.resume(event)
            case PassedOver():
                trainer.passed_over.append(event)
            case StageComplete():
                trainer.complete = event

    def begin(self, *, again: bool) -> None:
        """An attempt begins with its proof line or PLAN, whichever is first; what the one before said is history."""
        self.attempts = max(self.attempts, 1)
        if again or self.failed is not None or self.complete:
            self.earlier_errors += self.errors
            self.errors, self.data, self.plan = [], None, None
            self.failed, self.complete = None, False
            self.attempts += 1

    def result(self) -> LogSummary:
        return LogSummary(
            attempts=self.attempts,
            data=self.data,
            plan=self.plan,
            trainers={name: _frozen(trainer) for name, trainer in self.trainers.items()},
            first_dpo_loss=self.first_dpo_loss,
            ggufs=tuple(self.ggufs.values()),
            errors=tuple(self.errors),
            earlier_errors=tuple(self.earlier_errors),
            failed=self.failed,
            complete=self.complete,
        )


def _frozen(trainer: _Trainer) -> TrainerLog:
    return TrainerLog(
        steps=tuple(trainer.steps.values()),
        saved=tuple(sorted(trainer.saved)),
        resumes=tuple(trainer.resumes),
        passed_over=tuple(trainer.passed_over),
        complete=trainer.complete,
    )
