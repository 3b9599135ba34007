"""What has happened to a job, folded from its event log. Pure.

The kinds of events, in the order in which a good run writes them; each is a commit
point, and a process killed between any two goes on from the last one written:

``opened  stage  staged  rent_intended  rented  pinned  uploaded  installed  launched
poll  mirrored  trained  artifact  fetched  gate  verified  released  confirmed  guarded
destroy_intended  destroy_requested  destroyed  closed``

``stage`` and ``gate`` come with every stage; ``poll`` is a judgement in mid-training, which
opens nothing. When something stands in the way: ``rent_failed  relaunched  held  reopened
training_stopped  instance_stopped  instance_started  loss_accepted  abandoned``, and when another instance takes the
place of one that died: ``lost``, later ``resumes``. Kinds that change nothing here are for the report. A job that took
over an instance has ``adopted`` in the place of everything up to ``rented``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from harness.core.ids import InstanceId, Sha256
from harness.core.lifecycle import ADOPTED, ORDER, Stage
from harness.core.ports import RemoteFile
from harness.core.verdict import Verdict
from harness.job.model import Job
from harness.ledger.events import Event


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
class Pin:
    """The SSH host keys that the box must show, and how they became known."""

    keys: tuple[str, ...]
    how: str


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on this machine whose digest was read from its disk."""

    path: PurePath
    size: int
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class GateRecord:
    """The last judgement of a stage's gate: where its facts are, and what was decided when."""

    verdict: Verdict
    at: float
    plan_digest: str
    result: Mapping[str, Any]
    facts_path: str
    facts_sha256: str


@dataclass(frozen=True, slots=True)
class History:
    """A job's life so far. ``job`` is the configuration that it was last run with."""

    job: Job
    events: tuple[Event, ...] = ()
    entered: Mapping[Stage, float] = field(default_factory=dict)
    gates: Mapping[Stage, GateRecord] = field(default_factory=dict)
    staged: Mapping[str, Any] | None = None
    intended_label: str | None = None
    intended_offer: Mapping[str, Any] | None = None
    intended_owner: int | None = None
    intended_at: float | None = None
    labels: tuple[str, ...] = ()
    lost: Mapping[str, Any] | None = None
    """The dead instance whose place the next one takes: proof of absence, package's digest, artifact's path."""
    resumes: Mapping[str, Any] | None = None
    """What the training goes on from on this instance: the steps, and the files that were sent with the package."""
    rental: Rental | None = None
    pin: Pin | None = None
    launches: int = 0
    launched_at: float | None = None
    trained_at: float | None = None
    """When the training really ended well, by the box's account, not when that was noticed (epoch seconds)."""
    artifact: RemoteFile | None = None
    fetched: LocalFile | None = None
    verified: LocalFile | None = None
    release_path: str | None = None
    release_sha256: str | None = None
    confirmed: str | None = None
    guarded: Mapping[str, Any] | None = None
    destroy_intended: bool = False
    destroy_reply: str | None = None
    destroyed: Mapping[str, Any] | None = None
    closed: bool = False
    held: Mapping[str, Any] | None = None
    instance_stopped: bool = False

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that this job goes through."""
        return ADOPTED if self.job.adopted else ORDER

    @property
    def stage(self) -> Stage | None:
        """The stage that the job is in: the first whose gate has not opened; None when all have."""
        return next((stage for stage in self.stages if not self.passed(stage)), None)

    def passed(self, stage: Stage) -> bool:
        """Whether the stage's gate has opened."""
        gate = self.gates.get(stage)
        return gate is not None and gate.verdict is Verdict.PASS

    @property
    def alive(self) -> Rental | None:
        """The instance that may be billing: rented and not proven to be gone."""
        return self.rental if self.rental is not None and self.destroyed is None else None

    @property
    def head(self) -> str:
        """The digest of the last event: names the whole log."""
        return self.events[-1].digest if self.events else ""


def fold(events: Iterable[Event]) -> History:
    """The history that a job's events tell; raises ValueError when they do not begin with ``opened``."""
    history: History | None = None
    known: list[Event] = []
    for event in events:
        history = _after(history, event)
        known.append(event)
    if history is None:
        raise ValueError("the event log is empty")
    return replace(history, events=tuple(known))


def extended(history: History, event: Event) -> History:
    """The history after one more event: what folding all of them again would give."""
    return replace(_after(history, event), events=(*history.events, event))


def _after(history: History | None, event: Event) -> History:
    if event.kind == "opened":
        job = Job.model_validate(event.data["job"], extra="ignore")  # a later version may have dropped a field
        history = History(job=job) if history is None else replace(history, job=job)
    if history is None:
        raise ValueError("the event log does not begin with 'opened'")
    return _apply(history, event)


def _apply(history: History, event: Event) -> History:  # noqa: C901, PLR0911, PLR0912 - one case an event kind
    data: Mapping[str, Any] = event.data
    match event.kind:
        case "stage":
            stage = Stage(data["stage"])
            return replace(history, entered={stage: event.at, **history.entered}, held=None)
        case "staged":
            return replace(history, staged=data)
        case "rent_intended":
            labels = (*history.labels, data["label"])
            return replace(
                history,
                intended_label=data["label"],
                intended_offer=data["offer"],
                intended_owner=data.get("owner"),
                intended_at=event.at,
                labels=labels,
            )
        case "rent_failed":
            return replace(history, intended_label=None, intended_offer=None)
        case "rented" | "adopted":
            return replace(history, rental=_rental(data, event.at), pin=None, instance_stopped=False)
        case "pinned":
            return replace(history, pin=Pin(tuple(data["keys"]), data["how"]))
        case "launched" | "relaunched":
            return replace(history, launches=history.launches + 1, launched_at=event.at, trained_at=None)
        case "trained":
            return replace(history, trained_at=data["at"])
        case "artifact":
            return replace(history, artifact=RemoteFile(data["path"], data["size"], Sha256(data["sha256"])))
        case "fetched":
            return replace(history, fetched=_local(data))
        case "gate":
            gate = GateRecord(
                verdict=Verdict(data["verdict"]),
                at=event.at,
                plan_digest=data["plan_digest"],
                result=data["result"],
                facts_path=data["facts_path"],
                facts_sha256=data["facts_sha256"],
            )
            return replace(history, gates={**history.gates, Stage(data["stage"]): gate})
        case "reopened":
            gates = {stage: gate for stage, gate in history.gates.items() if stage != data["stage"]}
            return replace(history, gates=gates, verified=None, release_path=None, release_sha256=None, confirmed=None)
        case "verified":
            return replace(history, verified=_local(data))
        case "released":
            return replace(history, release_path=data["path"], release_sha256=data["sha256"])
        case "confirmed":
            return replace(history, confirmed=data["how"])
        case "guarded":
            return replace(history, guarded=data)
        case "destroy_intended":
            return replace(history, destroy_intended=True)
        case "destroy_requested":
            return replace(history, destroy_reply=data["reply"])
        case "destroyed":
            return replace(history, destroyed=data)
        case "abandoned":
            # Nothing of the job is left but its configuration: the next run begins with preflight.
            return History(job=history.job, events=history.events, labels=history.labels)
        case "lost":
            # As after an abandonment, but that the next instance goes on from what was mirrored of this one.
            return History(job=history.job, events=history.events, labels=history.labels, lost=data)
        case "resumes":
            return replace(history, resumes=data)
        case "closed":
            return replace(history, closed=True, held=None)
        case "held":
            return replace(history, held=data)
        case "instance_stopped":
            return replace(history, instance_stopped=True)
        case "instance_started":
            # No training runs on a box that was just started: its time counts from here.
            launched = event.at if history.launched_at is not None else None
            return replace(history, instance_stopped=False, launched_at=launched)
        case _:
            return history


def _rental(data: Mapping[str, Any], at: float) -> Rental:
    return Rental(
        instance_id=InstanceId(data["instance_id"]),
        label=data["label"],
        usd_per_hour=data["usd_per_hour"],
        offer=data["offer"],
        at=at,
        owner=data.get("owner"),
    )


def _local(data: Mapping[str, Any]) -> LocalFile:
    return LocalFile(PurePath(data["path"]), data["size"], Sha256(data["sha256"]))
