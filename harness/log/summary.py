"""The state of a run, summarised from the events of its training log. Pure.

A run that died and was launched again writes on in the same log: lines repeat, steps go
back to the checkpoint that was resumed from, and an earlier failure is history. The
summary speaks of the present attempt, and keeps what a resume must be judged by.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain
from statistics import median
from typing import Annotated, Any, Final, TypeVar

from pydantic import AliasChoices, BeforeValidator, Field

from harness.log.errors import ErrorLine
from harness.log.grammar import (
    DPO,
    SFT,
    CheckpointSaved,
    DataAnnounced,
    EpochsAnnounced,
    Event,
    FirstDpoLoss,
    GgufWritten,
    PassedOver,
    Plan,
    Resumed,
    RowsAnnounced,
    Schedule,
    StageComplete,
    Step,
    Trainer,
    TrainingComplete,
    TrainingFailed,
    lines,
    parse,
)
from harness.log.launches import LaunchLine
from harness.log.proof import ProofLine

E = TypeVar("E", bound=Event)
_OfTrainer = EpochsAnnounced | Schedule | Step | CheckpointSaved | Resumed | PassedOver | StageComplete
_PACE_WINDOW: Final = 20  # logged steps; the first ones of a run include compilation and warm-up


class RestsOn(StrEnum):
    """Lines that a summary rests on: those of the contract, or the records that a trainer logs by itself."""

    CONTRACT = "contract"
    TRAINER = "trainer"


RECORDS: Final = "the trainer's own records: it says nothing of the contract's"


@dataclass(frozen=True, slots=True)
class ByRecords:
    """Told by a trainer's own records only, of its newest training, or left open by them."""

    numbered: bool
    """False where nothing tells the steps: their numbers are those of the records."""
    total: int | None = None
    """Steps to which it counts; None where nothing tells."""
    reached: int = 0
    """Newest step by its progress bar."""
    margins: tuple[float, ...] = ()
    """Of a training by preferences."""
    flat_rewards: int | None = None
    """Of a training by rewards: records in which all answers to a prompt got the same. Its loss tells no course."""
    epochs: float | None = None
    """Times that it went through what it counts as its rows, by its newest record; None where it tells none."""
    samples: float | None = None
    """Rows that all its steps took, by its summary; a row that it made of several is one."""


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
    schedule: Schedule | None = None
    records: ByRecords | None = None
    """Of a trainer's own records only."""
    epochs: EpochsAnnounced | None = None
    other_epochs: tuple[EpochsAnnounced, ...] = ()
    """What earlier attempts announced, where it was something else."""

    @property
    def numbered(self) -> bool:
        """False where a trainer's own records do not tell their steps: the numbers are those of the records."""
        return self.records is None or self.records.numbered

    @property
    def last(self) -> Step | None:
        """The newest step."""
        return self.steps[-1] if self.steps else None

    @property
    def s_per_step(self) -> float | None:
        """The pace, seconds a step: the median of the newest logged steps."""
        recent = [step.s_per_step for step in self.steps[-_PACE_WINDOW:] if math.isfinite(step.s_per_step)]
        return median(recent) if recent else None

    def samples_per_s(self, rows_a_step: int) -> float | None:
        """Rows that the training learns from in a second, at its pace."""
        pace = self.s_per_step
        return round(rows_a_step / pace, 1) if pace else None


def _by_trainer(field: str, suffix: str) -> BeforeValidator:
    """Reads ``<trainer><suffix>`` of facts files of earlier versions, which knew two trainers, as a table ``field``."""

    def read(told: Any) -> Any:
        if not isinstance(told, dict) or field in told:
            return told
        return {**told, field: {str(trainer): told.get(f"{trainer}{suffix}") for trainer in (SFT, DPO)}}

    return BeforeValidator(read)


_EARLIER_ROWS: Final = _by_trainer("rows", "")
_EARLIER_STEPS: Final = _by_trainer("steps", "_steps")


@dataclass(frozen=True, slots=True)
class LogSummary:
    """A whole log. ``errors`` are those of the present attempt, ``earlier_errors`` those of the attempts before.

    ``earlier_plans`` are what those attempts announced, where it was something else.
    """

    rests_on: RestsOn = RestsOn.CONTRACT
    attempts: int = 0
    data: Annotated[DataAnnounced | None, Field(validation_alias=AliasChoices("data", "v2")), _EARLIER_ROWS] = None
    """In facts files of earlier versions: v2."""
    rows: Mapping[str, RowsAnnounced] = field(default_factory=dict)
    """Data files of the present attempt, by kind."""
    plan: Annotated[Plan | None, _EARLIER_STEPS] = None
    earlier_plans: tuple[Annotated[Plan, _EARLIER_STEPS], ...] = ()
    trainers: Mapping[Trainer, TrainerLog] = field(default_factory=dict)
    first_dpo_loss: float | None = None
    ggufs: tuple[GgufWritten, ...] = ()
    errors: tuple[ErrorLine, ...] = ()
    earlier_errors: tuple[ErrorLine, ...] = ()
    failed: str | None = None
    complete: bool = False
    launches: tuple[LaunchLine, ...] = ()
    """Launches that the harness wrote into the log of an unmodified trainer."""

    def of(self, trainer: str) -> TrainerLog:
        """One trainer's part; empty when it has not begun."""
        return self.trainers.get(Trainer(trainer), TrainerLog())

    def rows_a_step(self, trainer: str) -> int | None:
        """Rows that a trainer's steps take: the batch of the plan, unless it announces another number."""
        said = self.of(trainer).epochs
        return said.rows_a_step if said is not None else self.plan.batch_size if self.plan is not None else None


def read(data: bytes, proof: ProofLine | None, *, torn_end: bool = True) -> LogSummary:
    """Summarise a log's bytes; see ``grammar.lines`` for ``torn_end``."""
    return summarise(parse(lines(data, torn_end=torn_end), proof))


def summarise(events: Iterable[Event]) -> LogSummary:
    """Summarise events, in the order in which the log states them."""
    attempts: list[list[Event]] = [[]]
    by_trainer: defaultdict[Trainer, list[_OfTrainer]] = defaultdict(list)
    for event in events:
        if _begins_again(event, attempts[-1]):
            attempts.append([])
        attempts[-1].append(event)
        if isinstance(event, _OfTrainer):
            by_trainer[event.trainer].append(event)
    present, everything = attempts[-1], list(chain(*attempts))
    errors, earlier_errors = (tuple(_all(said, ErrorLine)) for said in (present, chain(*attempts[:-1])))
    loss, failed = _last(everything, FirstDpoLoss), _last(present, TrainingFailed)
    plan = _last(present, Plan)
    begun = any(isinstance(event, DataAnnounced | Plan) for event in everything)
    ended = [event for event in present if isinstance(event, TrainingComplete | TrainingFailed)]
    return LogSummary(
        attempts=len(attempts) if begun else 0,
        data=_last(present, DataAnnounced),
        rows={event.kind: event for event in _all(present, RowsAnnounced)},
        plan=plan,
        earlier_plans=_others(everything, plan),
        trainers={trainer: trainer_log(said) for trainer, said in by_trainer.items()},
        first_dpo_loss=loss.loss if loss else None,
        ggufs=tuple({event.path: event for event in _all(everything, GgufWritten)}.values()),
        errors=errors,
        earlier_errors=earlier_errors,
        failed=failed.reason if failed else None,
        complete=bool(ended) and isinstance(ended[-1], TrainingComplete),
    )


def _others(events: Iterable[Event], newest: E | None) -> tuple[E, ...]:
    """The events of the kind of the newest that state something else, each once."""
    found: list[E] = []
    for one in _all(events, type(newest)) if newest is not None else ():
        if one != newest and one not in found:
            found.append(one)
    return tuple(found)


def _all(events: Iterable[Event], kind: type[E]) -> Iterator[E]:
    return (event for event in events if isinstance(event, kind))


def _last(events: Sequence[Event], kind: type[E]) -> E | None:
    return next(_all(reversed(events), kind), None)


def _begins_again(event: Event, attempt: Iterable[Event]) -> bool:
    """True for a proof line or PLAN that opens another attempt: the present one has its own, or came to an end."""
    if not isinstance(event, DataAnnounced | Plan):
        return False
    ends = {type(event), TrainingComplete, TrainingFailed} | (
        {ErrorLine} if isinstance(event, DataAnnounced) else set()
    )
    return not ends.isdisjoint(map(type, attempt))


def trainer_log(events: Sequence[_OfTrainer]) -> TrainerLog:
    """One trainer's part, of what it said over all attempts."""
    steps: dict[int, Step] = {}
    saved: set[int] = set()
    resumes: list[Resume] = []
    passed_over: list[PassedOver] = []
    complete: StageComplete | None = None
    for event in events:
        if isinstance(event, Step | Resumed):  # whatever was said of the steps beyond is trained again
            kept = event.step if isinstance(event, Resumed) else event.step - 1
            if steps and next(reversed(steps)) > kept:
                steps = {number: step for number, step in steps.items() if number <= kept}
            complete = None if complete and complete.step > kept else complete
        match event:
            case Step():
                if resumes and resumes[-1].after is None:
                    resumes[-1] = replace(resumes[-1], after=event)
                steps[event.step] = event
            case Resumed():
                resumes.append(Resume(event.step, next(reversed(steps.values()), None), None))
            case CheckpointSaved():
                saved.add(event.step)
            case PassedOver():
                passed_over.append(event)
            case StageComplete():
                complete = event
    return TrainerLog(
        tuple(steps.values()),
        tuple(sorted(saved)),
        tuple(resumes),
        tuple(passed_over),
        complete,
        _last(events, Schedule),
        epochs=(epochs := _last(events, EpochsAnnounced)),
        other_epochs=_others(events, epochs),
    )
