"""A job's life so far, folded from the records of its event log. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any, TypeVar

from harness.artifacts import digest
from harness.artifacts.parts import Artifact, recorded
from harness.core.canonical import canonical
from harness.core.errors import AmbiguousCreate, Unaccounted
from harness.core.ids import InstanceId, Sha256
from harness.core.lifecycle import ADOPTED, ORDER, Stage
from harness.core.verdict import Verdict
from harness.job.model import Job
from harness.ledger import events, noted, settled
from harness.ledger.chain import Record
from harness.ledger.codec import decode
from harness.ledger.kinds import JobEvent

Kind = TypeVar("Kind", bound=JobEvent)
_OURS = re.compile(r"^.*[/\\]jobs[/\\]([^/\\]+)[/\\](release-[^/\\]+|(?:evidence|artifact)[/\\].+)$")
_IN_DOUBT = frozenset({Unaccounted.__name__, AmbiguousCreate.__name__})


@dataclass(frozen=True, slots=True)
class Rental:
    """The instance that this job rented, or took over: the offer as agreed to (JSON), the owner's user id.

    ``label`` is empty for one that was taken over without any.
    """

    instance_id: InstanceId
    label: str
    usd_per_hour: float
    offer: Mapping[str, Any]
    at: float
    owner: int | None = None


@dataclass(frozen=True, slots=True)
class LocalFile:
    """The artifact's place on this machine, whose digest was read from its disk: a file, or a folder of them."""

    path: PurePath
    size: int
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class History:
    """A job's life so far. ``job`` is the configuration that it was last run with."""

    job: Job
    records: tuple[Record, ...] = ()
    entered: Mapping[Stage, float] = field(default_factory=dict)
    gates: Mapping[Stage, events.GateJudged] = field(default_factory=dict)
    """The last judgement of each gate."""
    judged_at: Mapping[Stage, float] = field(default_factory=dict)
    staged: events.Staged | None = None
    agreed: events.PlanAgreed | None = None
    """The plan that was agreed to and has rented nothing yet: none was refused since, job and package are the same."""
    agreed_at: float | None = None
    intended: events.RentIntended | None = None
    """The rent that was begun last, unless it failed."""
    intended_at: float | None = None
    labels: tuple[str, ...] = ()
    lost: events.Lost | None = None
    """The dead instance whose place the next one takes."""
    resumes: events.Resumes | None = None
    """The mirrored checkpoints that the training goes on from on this instance."""
    rental: Rental | None = None
    pin: events.Pinned | None = None
    strategy: settled.StrategySettled | None = None
    """Strategy that was settled since the package and its libraries were brought to this instance."""
    launches: int = 0
    launched_at: float | None = None
    at_work: str | None = None
    """Part that the training was last seen at, since its last launch."""
    trained_at: float | None = None
    """Time at which the training really ended well, by the box's account (epoch seconds)."""
    artifact: Artifact | None = None
    fetched: LocalFile | None = None
    verified: LocalFile | None = None
    evaluation_at: float | None = None
    """Time at which the evaluation of this artifact was begun."""
    evaluated: events.Evaluated | None = None
    release_path: str | None = None
    release_sha256: str | None = None
    confirmed: str | None = None
    guarded: events.Guarded | None = None
    destroy_intended: bool = False
    destroy_reply: str | None = None
    destroyed: events.Destroyed | None = None
    closed: bool = False
    held: events.Held | None = None
    instance_stopped: bool = False
    directory: PurePath | None = None
    """The job's folder as it lies today: the log has paths of the time at which it was written."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that this job goes through."""
        return ADOPTED if self.job.adopted else ORDER

    @property
    def stage(self) -> Stage | None:
        """The stage that the job is in: the first whose gate has not opened; None when all have."""
        return next((stage for stage in self.stages if not self.passed(stage)), None)

    def passed(self, stage: Stage) -> bool:
        """True when the stage's gate has opened."""
        gate = self.gates.get(stage)
        return gate is not None and gate.verdict is Verdict.PASS

    @property
    def alive(self) -> Rental | None:
        """The instance that may be billing: rented and not proven to be gone."""
        return self.rental if self.rental is not None and self.destroyed is None else None

    @property
    def unresolved(self) -> events.RentIntended | None:
        """A rent that was begun and of whose outcome nothing is recorded: something may be billing."""
        return self.intended if self.rental is None else None

    @property
    def in_doubt(self) -> bool:
        """True when something may be billing that this log does not name: it was seen, or is not proven to be none."""
        held = self.held is not None and self.held.error in _IN_DOUBT
        return self.rental is None and (self.intended is not None or held)

    @property
    def package(self) -> Sha256 | None:
        """Names the staged package: checkpoints are of use to the very package that made them."""
        return digest.of_bytes(canonical(self.staged.files)) if self.staged is not None else None

    @property
    def repackaged(self) -> bool:
        """True when the package is not the one that was on the instance whose place is to be taken."""
        return self.lost is not None and self.lost.package != self.package

    @property
    def head(self) -> str:
        """The digest of the last record: names the whole log."""
        return self.records[-1].digest if self.records else ""

    def here(self, path: str | PurePath) -> PurePath:
        """A path of the log; one in the job's folder, wherever that lay then, in the folder as it lies today."""
        found = _OURS.search(str(path))
        if found is None or self.directory is None or found[1] != self.job.name:
            return PurePath(path)
        if found[2].startswith("artifact") and self.job.artifact.destination:
            return PurePath(path)
        return self.directory.joinpath(*re.split(r"[/\\]", found[2]))

    @property
    def switch(self) -> settled.SwitchArmed | None:
        """The switch that was armed on the instance that is alive, and not taken off since."""
        armed, alive = self.all(settled.SwitchArmed)[-1:], self.alive
        if not armed or alive is None or armed[0].instance_id != alive.instance_id:
            return None
        return None if armed[0].after_s is None else armed[0]

    def all(self, kind: type[Kind]) -> tuple[Kind, ...]:
        """Every event of one kind, in order."""
        found = (decode(record) for record in self.records if record.kind == kind.kind)
        return tuple(event for event in found if isinstance(event, kind))


def fold(records: Iterable[Record]) -> History:
    """The history that a job's log tells.

    Raises ValueError when it does not begin with ``Opened``, or a record does not hold an event of its kind.
    """
    history: History | None = None
    known: list[Record] = []
    for record in records:
        history = _after(history, record)
        known.append(record)
    if history is None:
        raise ValueError("the event log is empty")
    return _set(history, records=tuple(known))


def placed(history: History, directory: PurePath) -> History:
    """The history of a job whose folder lies there: a home may have been moved, or restored at another path."""
    there = replace(history, directory=directory)
    files = {name: getattr(history, name) for name in ("fetched", "verified")}
    moved = {name: replace(file, path=there.here(file.path)) for name, file in files.items() if file is not None}
    release = None if history.release_path is None else str(there.here(history.release_path))
    return replace(there, release_path=release, **moved)


def extended(history: History, record: Record) -> History:
    """The history after one more record: what folding all of them again would give."""
    return replace(_after(replace(history), record), records=(*history.records, record))


def _after(history: History | None, record: Record) -> History:
    """The history after a record, which may be the very one that was given, changed."""
    event = decode(record)
    if isinstance(event, events.Opened):
        job = Job.model_validate(event.job, extra="ignore")  # a later version may have dropped a field
        return History(job=job) if history is None else _set(history, job=job, agreed=None)
    if history is None:
        raise ValueError("the event log does not begin with 'opened'")
    return history if event is None else _apply(history, event, record.at)


def _apply(history: History, event: JobEvent, at: float) -> History:  # noqa: C901, PLR0911, PLR0912 - one case a kind
    match event:
        case events.StageEntered(stage):
            return _set(history, entered={stage: at, **history.entered}, held=None)
        case events.Staged():
            first = history.staged is None
            _set(history, staged=event)
            return history if first and not history.repackaged else _set(history, agreed=None)
        case events.PlanAgreed():
            return _set(history, agreed=event, agreed_at=at)
        case events.PlanRefused():
            return _set(history, agreed=None)
        case events.RentIntended():
            return _set(history, intended=event, intended_at=at, labels=(*history.labels, event.label))
        case events.RentFailed():
            return _set(history, intended=None)
        case events.Rented() | events.Adopted():
            rental = Rental(event.instance_id, event.label, event.usd_per_hour, event.offer, at, event.owner)
            return _set(history, rental=rental, agreed=None, pin=None, strategy=None, instance_stopped=False)
        case events.Uploaded() | events.Installed():
            return _set(history, strategy=None)
        case settled.StrategySettled():
            return _set(history, strategy=event)
        case events.Pinned():
            return _set(history, pin=event)
        case events.Launched() | events.Relaunched():
            return _set(history, launches=history.launches + 1, launched_at=at, trained_at=None, at_work=None)
        case noted.AtWork():
            return _set(history, at_work=event.part)
        case events.Trained():
            return _set(history, trained_at=event.at)
        case events.ArtifactRecorded():
            artifact = recorded(event.path, event.size, event.sha256, event.files)
            return _set(history, artifact=artifact, evaluation_at=None, evaluated=None)
        case events.Fetched():
            return _set(history, fetched=_local(event))
        case events.GateJudged():
            gates, judged_at = {**history.gates, event.stage: event}, {**history.judged_at, event.stage: at}
            return _set(history, gates=gates, judged_at=judged_at)
        case events.Reopened():
            gates = {stage: gate for stage, gate in history.gates.items() if stage is not event.stage}
            return _set(history, gates=gates, verified=None, release_path=None, release_sha256=None, confirmed=None)
        case events.Verified():
            return _set(history, verified=_local(event))
        case events.EvaluationBegun():
            return _set(history, evaluation_at=at)
        case events.Evaluated():
            return _set(history, evaluated=event)
        case events.Released():
            return _set(history, release_path=event.path, release_sha256=event.sha256)
        case events.Confirmed():
            return _set(history, confirmed=event.how)
        case events.Guarded():
            return _set(history, guarded=event)
        case events.DestroyIntended():
            return _set(history, destroy_intended=True)
        case events.DestroyRequested():
            return _set(history, destroy_reply=event.reply)
        case events.Destroyed():
            return _set(history, destroyed=event)
        case events.Abandoned():
            # Nothing of the job is left but its configuration: the next run begins with preflight.
            return History(job=history.job, records=history.records, labels=history.labels)
        case events.Lost():
            # As after an abandonment, but that the next instance goes on from what was mirrored of this one.
            fresh = History(job=history.job, records=history.records, labels=history.labels, lost=event)
            return _set(fresh, agreed=history.agreed, agreed_at=history.agreed_at)
        case events.Resumes():
            return _set(history, resumes=event)
        case events.Closed():
            return _set(history, closed=True, held=None)
        case events.Held():
            return _set(history, held=event)
        case events.InstanceStopped():
            return _set(history, instance_stopped=True)
        case events.InstanceStarted():
            # No training runs on a box that was just started: its time counts from here.
            return _set(history, instance_stopped=False, launched_at=None if history.launched_at is None else at)
        case _:  # of interest to the report alone
            return history


def _set(history: History, **changes: Any) -> History:
    """A history that is still being folded, which nobody else has, with other values: a copy of it costs far more."""
    for name, value in changes.items():
        object.__setattr__(history, name, value)
    return history


def _local(event: events.Fetched | events.Verified) -> LocalFile:
    return LocalFile(PurePath(event.path), event.size, event.sha256)
