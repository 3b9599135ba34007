"""Puts the parts together: a job's desk, with its store, provider and box. The only place that chooses adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness import durable, environment, facts, orphans
from harness.canonical import Json
from harness.clock import SystemClock
from harness.errors import BadInput, HostUnreachable, InstanceDead, LogDamaged
from harness.events import Event
from harness.facts.file import FactsFile, digest
from harness.history import History, extended, fold
from harness.ids import InstanceId, JobName, job_name
from harness.job.model import Job, ProviderTable
from harness.lifecycle import Stage
from harness.orphans import Known
from harness.ports import Clock, Endpoint, EventStore, Host, Provider

if TYPE_CHECKING:
    from harness.remote.host import SshHost


@dataclass(frozen=True, slots=True)
class TakenFacts:
    """A facts file that was just written: evidence beside the log."""

    path: Path
    sha256: str
    facts: FactsFile


@dataclass(slots=True)
class JobDesk:
    """One job at work: its history and, opened when first needed, its provider and box. See ``facts.desk.Desk``."""

    name: JobName
    home: Path
    store: EventStore
    clock: Clock
    open_provider: Callable[[Job, Path, Clock], Provider]
    _history: History | None = field(default=None, repr=False)
    _provider: Provider | None = field(default=None, repr=False)
    _host: Host | None = field(default=None, repr=False)

    @property
    def job(self) -> Job:
        """The job's configuration, as it was last opened."""
        return self.history.job

    @property
    def directory(self) -> Path:
        """The job's own folder."""
        return self.home / "jobs" / self.name

    @property
    def destination(self) -> Path:
        """Where the artifact is to arrive."""
        return self.job.artifact.destination or self.directory / "artifact"

    @property
    def history(self) -> History:
        """The job's events, folded."""
        if self._history is None:
            events = self.store.events(self.name)
            if not events:
                raise BadInput(f"there is no job {self.name!r} in {self.home}", remedy="harness status lists the jobs.")
            self._history = _fold(self.name, events)
        return self._history

    def record(self, kind: str, data: Mapping[str, Json]) -> None:
        """Append an event; it is on the disk when this returns."""
        known = self.history
        self._history = None  # what an append that failed has left is read anew
        event = self.store.append(self.name, kind, data, expected_seq=known.events[-1].seq)
        self._history = extended(known, event)

    def take_facts(self, stage: str) -> TakenFacts:
        """Look at a stage's world once and write down what was seen."""
        began, at = self.clock.monotonic(), self.clock.now()
        seen = facts.look(Stage(stage), self)
        taken = FactsFile(str(stage), self.job, at, self.clock.monotonic() - began, seen)
        data = taken.dump()
        path = self.directory / "evidence" / f"{stage}-{int(at * 1000)}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write(path, data)
        return TakenFacts(path, digest(data), taken)

    @property
    def public_key(self) -> str:
        """The harness's own SSH key for rented boxes, made when it is first needed."""
        from harness.remote.keys import generate_keypair  # noqa: PLC0415 - loads paramiko

        return generate_keypair(self._key_file())

    def known(self) -> Known:
        """What all jobs in the ledger have had at this job's provider."""
        return Ledger(self.store).known(self.job.provider)

    def provider(self) -> Provider:
        """The marketplace."""
        if self._provider is None:
            self._provider = self.open_provider(self.job, self.home, self.clock)
        return self._provider

    def host(self) -> Host:
        """The rented box over the job's own connection."""
        if self._host is None:
            self._host = self.fresh_host()
        return self._host

    def shown_host_key(self) -> str:
        """The host key that the box shows now; it is recorded as the first use."""
        host = self.fresh_host()
        try:
            return host.host_key()
        finally:
            host.close()

    def fresh_host(self) -> SshHost:
        """The rented box over a connection of its own."""
        from harness.remote.host import SshHost  # noqa: PLC0415 - loads paramiko
        from harness.remote.ssh import Login  # noqa: PLC0415 - loads paramiko

        rental, pin, provider = self.history.alive, self.history.pin, self.provider()
        if rental is None:
            raise HostUnreachable("no instance of this job is alive")

        def whereabouts() -> Login:  # called from threads of transfers: it must not touch the history
            instance = provider.instance(rental.instance_id)
            if instance is None:
                raise HostUnreachable(
                    f"the provider shows no instance {rental.instance_id}", remedy=InstanceDead.default_remedy
                )
            return Login(
                user=self.job.machine.ssh_user,
                endpoints=instance.endpoints,
                key_file=self._key_file(),
                host_keys=pin.keys if pin else (),
                first_use_file=self.directory / f"host-key-{rental.instance_id}",
            )

        login, patience = whereabouts(), self.job.limits.reconnect_s
        key = login.key_file
        if not key.exists() or key.stat().st_mtime > rental.at:  # made anew after a loss: the box must be told of it
            provider.attach_key(rental.instance_id, self.public_key)
        return SshHost(login, self.clock, whereabouts=whereabouts, patience=patience)

    def forget_connections(self) -> None:
        """Close what is open; it is opened again, with what is known by then, when next needed."""
        if self._host is not None:
            self._host.close()
            self._host = None

    def _key_file(self) -> Path:
        return self.home / "ssh" / "id_ed25519"


def open_provider(job: Job, home: Path, clock: Clock) -> Provider:
    """The provider that a job names; raises BadInput when its key is missing."""
    table = job.provider
    return open_provider_named(table.kind, home, clock, server_url=table.server_url, scenario=table.scenario)


def open_provider_named(
    kind: str, home: Path, clock: Clock, *, server_url: str | None = None, scenario: str | None = None
) -> Provider:
    """``vast`` or ``emulated``; raises BadInput when its key is missing."""
    if kind == "emulated":
        from harness.providers.emulated import open_emulated  # noqa: PLC0415 - needs the emulator's extra

        environment.keep_loopback_direct()
        return open_emulated(emulator_home(home, scenario), clock, scenario=scenario)
    from harness.providers.credentials import resolve  # noqa: PLC0415 - adapters load when they are needed
    from harness.providers.vast import VastProvider  # noqa: PLC0415 - loads the client

    return VastProvider(resolve(environment.variables(), Path.home(), server_url=server_url), clock)


def emulator_home(home: Path, scenario: str | None) -> Path:
    """Where the embedded provider keeps its state: one for ordinary jobs, one of its own for each scenario."""
    return home / ("emulator" if scenario is None else f"emulator-{Path(scenario).stem}")


@dataclass(frozen=True, slots=True)
class Ledger:
    """All jobs of this user, for looking only."""

    store: EventStore

    def read(self) -> tuple[Mapping[JobName, History], Mapping[JobName, LogDamaged]]:
        """Every job's history, and why the others have none; raises StoreFailed when there is no store to read."""
        histories: dict[JobName, History] = {}
        unreadable: dict[JobName, LogDamaged] = {}
        for name in self.store.jobs():
            try:
                histories[name] = _fold(name, self.store.events(name))
            except LogDamaged as error:
                unreadable[name] = error
        return histories, unreadable

    def known(self, at: ProviderTable) -> Known:
        """What all jobs have had at a provider, as far as their logs read."""
        histories, unreadable = self.read()
        return orphans.known(histories.values(), at, unreadable)

    def closed(self) -> frozenset[JobName]:
        """The jobs that are over, as far as their logs read."""
        return frozenset(name for name, history in self.read()[0].items() if history.closed)

    def lives(self, provider: str) -> bool:
        """Whether any job may have something alive at a kind of provider: what does not read may, too."""
        histories, unreadable = self.read()
        return bool(unreadable) or any(one.alive and one.job.provider.kind == provider for one in histories.values())

    def owner(self, instance_id: InstanceId, at: ProviderTable | None = None) -> JobName | None:
        """The job that has an instance, one that may be billing before one that is over.

        ``at``: only a job at this provider; another one's numbers mean other instances. Raises LogDamaged when
        none has it, and a log that does not read may be that job's.
        """
        histories, unreadable = self.read()
        having = [
            (history.alive is None, name)
            for name, history in histories.items()
            if history.rental is not None and history.rental.instance_id == instance_id
            if at is None or orphans.place(history.job.provider) == orphans.place(at)
        ]
        if having:
            return min(having)[1]
        for error in unreadable.values():
            raise error
        return None

    def begun(self, name: str) -> tuple[Job, Path] | None:
        """The configuration that a job was last run with, and its file; None when no job has that name."""
        if name not in self.store.jobs():
            return None
        events = self.store.events(named(name))
        files = [str(event.data["file"]) for event in events if event.kind == "opened"]
        return _fold(named(name), events).job, Path(files[-1])

    def adopted(self, name: JobName) -> bool:
        """Whether a job took its instance over."""
        return _fold(name, self.store.events(name)).job.adopted

    def row(self, name: JobName) -> dict[str, Json]:
        """Where a job stands, as JSON; of one whose log does not read, why, under ``unreadable``."""
        try:
            return self._row(name)
        except LogDamaged as error:
            return {"job": name, "stage": "unreadable", "alive": None, "unreadable": str(error)}

    def _row(self, name: JobName) -> dict[str, Json]:
        events = self.store.events(name)
        if not events:
            raise BadInput(f"there is no job {name!r}", remedy="harness status lists the jobs.")
        history = _fold(name, events)
        rental = history.rental
        stage = "closed" if history.closed else str(history.stage or "closing")
        return {
            "job": name,
            "stage": stage,
            "alive": history.alive is not None,
            "instance_id": rental.instance_id if rental else None,
            "usd_per_hour": rental.usd_per_hour if rental else None,
            "held": str(history.held["reason"]) if history.held else None,
            "verified": str(history.verified.path) if history.verified else None,
        }


@contextmanager
def open_ledger(home: Path | None = None) -> Iterator[Ledger]:
    """The ledger of all jobs."""
    yield Ledger(_open_store(home or environment.home(), SystemClock()))


@contextmanager
def open_desk(name: str | None, *, home: Path | None = None, new: bool = False) -> Iterator[JobDesk]:
    """A job's desk; without a name, that of the job that moved last. Raises BadInput when there is none.

    ``new``: the job need not have begun.
    """
    place = home or environment.home()
    clock = SystemClock()
    store = _open_store(place, clock)
    desk = JobDesk(named(name) if name else latest(store), place, store, clock, open_provider)
    if not new:
        _ = desk.history
    try:
        yield desk
    finally:
        desk.forget_connections()


def _open_store(home: Path, clock: Clock) -> EventStore:
    from harness.store.sql import open_store  # noqa: PLC0415 - loads SQLAlchemy

    return open_store(home / "state.db", clock)


def open_box(endpoint: Endpoint, user: str, key_file: Path, first_use_file: Path) -> Host:
    """A box by its address alone; its host key is required from the first contact on."""
    from harness.remote.host import SshHost  # noqa: PLC0415 - loads paramiko
    from harness.remote.ssh import Login  # noqa: PLC0415 - loads paramiko

    login = Login(user=user, endpoints=(endpoint,), key_file=key_file, first_use_file=first_use_file)
    return SshHost(login, SystemClock())


def latest(store: EventStore) -> JobName:
    """The job whose log was last written to; raises BadInput when there is none."""
    try:
        newest = {name: events[-1].at for name in store.jobs() if (events := store.events(name))}
    except LogDamaged as error:
        raise LogDamaged(
            f"which job moved last cannot be told: {error}", remedy=f"Name the job that is meant. {error.remedy}"
        ) from error
    if not newest:
        raise BadInput("no job has been run yet", remedy="harness demo runs one on this machine.")
    return max(newest, key=lambda name: newest[name])


def _fold(name: JobName, events: tuple[Event, ...]) -> History:
    try:
        return fold(events)
    except (ValueError, KeyError, TypeError) as error:
        raise LogDamaged(f"the event log of job {name} does not read: {error}") from error


def named(name: str) -> JobName:
    """A job's name as it was typed; raises BadInput when it cannot be one."""
    try:
        return job_name(name)
    except ValueError as error:
        raise BadInput(str(error)) from error
