"""Job that owns an instance, a volume or a charge, told from the event logs of all jobs. Pure.

What a job has rented is the job's until its absence is proven. What shows again afterwards
was forgotten: the log says that it is over, and it bills.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from harness.core.ids import InstanceId, JobName, VolumeId, is_our_label
from harness.core.ports import Bill, Instance, Volume
from harness.core.text import printable
from harness.job.provider import ProviderTable
from harness.ledger import events
from harness.ledger.codec import decode
from harness.ledger.history import History
from harness.ledger.throwaway import Throwaway
from harness.providers import registry

_ROUNDING_USD = 0.01
"""Growth of a bill that is allowed after its end was proven: amounts are rounded, the last traffic is booked late."""


class Standing(StrEnum):
    """Answer to the question which job, if any, owns something that bills."""

    OWNED = "owned"
    FORGOTTEN = "forgotten"
    """A job's, and the job's log says that it is gone or over."""
    ORPHAN = "orphan"
    """This tool's by its label, and in no log here."""
    STRANGER = "stranger"
    """Not this tool's."""


STRAY = frozenset({Standing.FORGOTTEN, Standing.ORPHAN})
"""This tool's, and no job answers for it."""


@dataclass(frozen=True, slots=True)
class Whose:
    """Owner of something that bills, with the sentence that says so."""

    standing: Standing
    told: str


@dataclass(frozen=True, slots=True)
class Claim:
    """An instance that a job has had: ``gone`` when its absence was proven, ``usd`` what it had cost when that ended.

    ``now`` says where the job stands, in words. ``ending``: its destruction was begun, and it may go at any moment.
    """

    job: JobName
    instance_id: InstanceId
    gone: bool
    usd: float | None
    now: str
    ending: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """Everything that the logs of all jobs know of a provider's account; ``volumes`` were mounted in a job's instance.

    The knowledge of ``unreadable`` logs is missing: nothing is then proven to be nobody's.
    """

    instances: Mapping[InstanceId, Claim] = field(default_factory=dict)
    volumes: Mapping[VolumeId, JobName] = field(default_factory=dict)
    begun: Mapping[str, JobName] = field(default_factory=dict)
    """The labels of rents that were begun and of which nothing more is recorded: the job looks for its instance."""
    unreadable: tuple[JobName, ...] = ()
    throwaways: tuple[Throwaway, ...] = ()
    """Conformance runs: what one has rented is its own, and no job's."""
    taken_over: Mapping[str, JobName] = field(default_factory=dict)
    """Jobs that are closed and had taken an instance over, by the label that it bore."""

    def of_instance(self, instance: Instance) -> Whose:
        """Owner of a listed instance."""
        claim = self.instances.get(instance.id)
        if claim is None and (run := self._run(instance.id, instance.label)) is not None:
            return _of_run(run)
        if claim is None and (job := self.begun.get(instance.label or "")) is not None:
            return Whose(Standing.OWNED, f"job {job}, which was cut off while it rented: harness run {job} finds it")
        if claim is None:
            whose = self._by_label(instance.label)
            if whose.standing is not Standing.ORPHAN or self.unreadable:  # it may be that job's: restore the log first
                return whose
            way = f"; harness destroy --instance-id {instance.id} --job-file FILE brings its model home first"
            return Whose(whose.standing, whose.told + way)
        if claim.gone:
            return Whose(
                Standing.FORGOTTEN,
                f"job {claim.job} has proven that it is gone, and it lives: look at the provider's console",
            )
        return Whose(Standing.OWNED, f"job {claim.job}, {claim.now}")

    def of_volume(self, volume: Volume) -> Whose:
        """Owner of a listed volume: the job in whose instance it is mounted, as long as that lives."""
        claims = [self.instances[one] for one in volume.instances if one in self.instances]
        for claim in claims:
            if not claim.gone:
                return Whose(Standing.OWNED, f"in use by instance {claim.instance_id} of job {claim.job}")
        job = claims[0].job if claims else self.volumes.get(volume.id)
        if job is not None:
            told = f"it was mounted in job {job}'s instance, which is gone: delete it in the provider's console, "
            return Whose(Standing.FORGOTTEN, told + f"or name {volume.id} in provider.kept_volumes")
        return self._by_label(volume.label)

    def of_bill(self, bill: Bill) -> Whose:
        """Owner of the charges of a contract that is itself not listed; OWNED when a job has accounted for them."""
        claim = self.instances.get(InstanceId(bill.id)) if bill.kind == "instance" else None
        if claim is not None:
            return _of_claim(claim, bill)
        if bill.kind == "instance" and (run := self._run(bill.id, bill.label)) is not None:
            if run.usd is not None and bill.usd <= run.usd + _ROUNDING_USD:
                return Whose(Standing.OWNED, f"conformance run {run.nonce}, which saw it end")
            return _of_run(run)
        if (
            bill.kind == "volume"
            and isinstance(bill.id, int)
            and (job := self.volumes.get(VolumeId(bill.id))) is not None
        ):
            return Whose(Standing.FORGOTTEN, f"a volume that was mounted in job {job}'s instance")
        return self._by_label(bill.label)

    def alive(self) -> tuple[InstanceId, ...]:
        """The instances that are alive in a job's log and are to stay so, the one that was had last first."""
        claims = reversed(tuple(self.instances.values()))
        return tuple(claim.instance_id for claim in claims if not claim.gone and not claim.ending)

    def missing(self, listed: Iterable[Instance]) -> tuple[Claim, ...]:
        """The instances that are alive in a job's log and not in the provider's list."""
        shown = {instance.id for instance in listed}
        return tuple(claim for claim in self.instances.values() if not claim.gone and claim.instance_id not in shown)

    def _run(self, number: object, label: str | None) -> Throwaway | None:
        return next((run for run in self.throwaways if run.owns(number, label)), None)

    def _by_label(self, label: str | None) -> Whose:
        doubt = f"; or of job {', '.join(self.unreadable)}, whose log does not read" if self.unreadable else ""
        if is_our_label(label):
            told = f"ORPHAN: {printable(label or '', 80)} is in no ledger here; another machine's job, or a lost one"
            return Whose(Standing.ORPHAN, told + doubt)
        return Whose(Standing.STRANGER, "not this tool's" + doubt)


def known(
    histories: Iterable[History],
    at: ProviderTable,
    unreadable: Iterable[JobName] = (),
    throwaways: Iterable[Throwaway] = (),
) -> Known:
    """Everything that was had at the provider ``at``; another provider's numbers mean other things."""
    instances: dict[InstanceId, Claim] = {}
    volumes: dict[VolumeId, JobName] = {}
    begun: dict[str, JobName] = {}
    taken_over: dict[str, JobName] = {}
    there = registry.place(at.kind, at.own)
    for history in histories:
        if registry.place(history.job.provider.kind, history.job.provider.own) == there:
            now = _now(history)
            if history.rental is None and history.intended is not None:
                begun[history.intended.label] = history.job.name
            for record in history.records:
                job = history.job.name
                if record.kind == events.Adopted.kind and history.closed:
                    taken_over[str(record.data["label"])] = job
                match event := decode(record):
                    case events.Rented() | events.Adopted():
                        instances[event.instance_id] = Claim(job, event.instance_id, gone=False, usd=None, now=now)
                    case events.Destroyed() | events.Abandoned() | events.Lost():
                        usd = _proven_usd(event.billing)
                        instances[event.instance_id] = Claim(job, event.instance_id, gone=True, usd=usd, now=now)
                    case events.DestroyIntended():
                        volumes.update(dict.fromkeys(event.volumes, job))
                        if (claim := instances.get(event.instance_id)) is not None:
                            instances[event.instance_id] = replace(claim, ending=True)
                    case _:
                        pass
    own = tuple(one for one in throwaways if one.place == there)
    return Known(instances, volumes, begun, tuple(unreadable), own, taken_over)


def stray(
    found: Known, instances: Sequence[Instance], volumes: Sequence[Volume], kept: Sequence[int]
) -> tuple[str, ...]:
    """Instances and volumes of this tool that no job answers for; ``kept``: volumes that are meant to stay."""
    lost = [
        f"instance {one.id} {printable(one.label or '', 80)} {one.status} {one.usd_per_hour:.2f} USD/h"
        for one in instances
        if found.of_instance(one).standing in STRAY
    ]
    return (
        *lost,
        *(described(one) for one in volumes if one.id not in kept and found.of_volume(one).standing in STRAY),
    )


def described(volume: Volume) -> str:
    """A volume in one line."""
    price = "at an unknown price" if volume.usd_per_hour is None else f"{volume.usd_per_hour:.4f} USD/h"
    return f"volume {volume.id} {printable(volume.label or '', 80)} {volume.size_gb:g} GB {price}"


def _proven_usd(billing: Mapping[str, Any] | None) -> float | None:
    looks = (billing or {}).get("looks") or [{}]
    usd = looks[-1].get("usd")
    return None if usd is None else float(usd)


def _now(history: History) -> str:
    if history.closed:
        return "closed"
    held = f", held: {printable(history.held.reason, 120)}" if history.held else ""
    return f"at stage {history.stage or 'closing'}{held}"


def _of_run(run: Throwaway) -> Whose:
    if run.at_work():
        return Whose(Standing.OWNED, f"conformance run {run.nonce}, which is at work now")
    if run.may_bill:
        return Whose(Standing.FORGOTTEN, f"conformance run {run.nonce}, which was cut off: {run.end_command} ends it")
    told = f"conformance run {run.nonce} has proven that it is gone, and it goes on: look at the provider's console"
    return Whose(Standing.FORGOTTEN, told)


def _of_claim(claim: Claim, bill: Bill) -> Whose:
    if not claim.gone:
        return Whose(Standing.OWNED, f"job {claim.job}, {claim.now}")
    if claim.usd is None:
        return Whose(
            Standing.FORGOTTEN,
            f"job {claim.job}'s instance is gone, and the end of its billing was never proven",
        )
    if bill.usd > claim.usd + _ROUNDING_USD:
        return Whose(
            Standing.FORGOTTEN,
            f"it goes on: ${claim.usd:.2f} when job {claim.job} saw its billing end, ${bill.usd:.2f} now",
        )
    return Whose(Standing.OWNED, f"job {claim.job}, which saw it end")


def place(table: ProviderTable) -> frozenset[tuple[str, str]]:
    """Place of a job's instance, by setting: two jobs at one place see the same account's numbers."""
    return frozenset((name, repr(value)) for name, value in registry.place(table.kind, table.own).items())
