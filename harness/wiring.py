"""Puts the parts together: a job's context, with its store, provider and box. The only place that chooses adapters."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.by_address import key_of, own_keys
from harness.core import durable, environment
from harness.core.clock import SystemClock
from harness.core.errors import BadInput, HostUnreachable, InstanceDead, ProviderUnavailable
from harness.core.ids import InstanceId, JobName
from harness.core.lifecycle import Stage
from harness.core.ports import Clock, Endpoint, Host, Instance, Provider
from harness.core.rate import Show, unwatched
from harness.gates.facts_file import FactsFile, TakenFacts, digest
from harness.job.model import Job
from harness.job.provider import ProviderTable
from harness.ledger import chain, travelling
from harness.ledger.codec import encode
from harness.ledger.events import Opened
from harness.ledger.history import History, LocalFile, extended, placed
from harness.ledger.imported import FOLDER, Imported
from harness.ledger.jobs import Ledger, folded, latest, named
from harness.ledger.kinds import JobEvent
from harness.ledger.limits import AccountLimits
from harness.ledger.limits import load as load_limits
from harness.ledger.store import EventStore
from harness.providers import registry
from harness.providers.registry import ProviderSettings

if TYPE_CHECKING:
    from harness.ledger.ownership import Known
    from harness.providers.assumptions import Subject
    from harness.providers.scoped_keys import StopKeyIssuer
    from harness.providers.wall import Wall
    from harness.remote.host import SshHost
    from harness.remote.ssh.connection import Login
    from harness.remote.ssh.own_keys import OwnKeys

_GLANCE_S = 5.0
"""Seconds for which somebody who only looks waits for a box that does not answer, before that is said."""


@dataclass(slots=True)
class OpenContext:
    """One job at work: its history and, opened when first needed, its provider and box. A ``context.RunnerContext``."""

    name: JobName
    home: Path
    store: EventStore
    clock: Clock
    open_provider: Callable[[ProviderTable, Path, Clock], Provider]
    own: OwnKeys | None = None
    """Keys of the operator's own that open the box for a look, which attaches no other."""
    scratch: Path | None = None
    """Where a look that is to leave nothing behind keeps what it brings."""
    only_looks: bool = False
    """Beside whoever drives the job: no key is taken or attached, and a box that does not answer is not waited for."""
    heard: Callable[[JobEvent], None] = field(default=lambda _: None, repr=False)
    """Told of every event once it is recorded; raises nothing, but that a signal may come meanwhile."""
    show: Show = unwatched
    """Whoever watches how far a long look is."""
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
        return self.scratch or self.home / "jobs" / self.name

    @property
    def destination(self) -> Path:
        """Folder in which the artifact is to arrive."""
        return self.job.artifact.destination or self.directory / "artifact"

    @property
    def history(self) -> History:
        """The job's log, folded."""
        if self._history is None:
            records = self.store.records(self.name)
            if not records:
                raise Ledger(self.store, self.home / "jobs").no_job(self.name)
            self._history = placed(folded(self.name, records), self.directory)
        return self._history

    @property
    def ran_elsewhere(self) -> bool:
        """True for a job of another machine, by its bundle."""
        return isinstance(self.store, Imported)

    def record(self, event: JobEvent) -> None:
        """Append an event; it is on the disk when this returns."""
        known = self.history
        travelling.keep(self.store, event, self.directory)
        self._history = None  # what an append that failed has left is read anew
        record = self.store.append(self.name, event, expected_seq=known.records[-1].seq)
        self._history = placed(extended(known, record), self.directory)
        self.heard(event)

    def require_lease(self, *, within_s: float = 0.0) -> None:
        """Raise LeaseLost unless this process still drives the job."""
        self.store.require_lease(self.name, within_s=within_s)

    def take_facts(self, stage: str) -> TakenFacts:
        """Look at a stage's world once and write down what was seen."""
        from harness import facts  # noqa: PLC0415 - a look loads what it looks with

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
        from harness.remote.ssh.keys import generate_keypair  # noqa: PLC0415 - loads paramiko

        return generate_keypair(self.key_file)

    def known(self) -> Known:
        """All that the ledger's jobs have had at this job's provider."""
        return Ledger(self.store, self.home / "jobs").known(self.job.provider)

    def stop_keys(self) -> StopKeyIssuer:
        """The provider's keys that stop one instance and do nothing else."""
        table = self.job.provider
        settings = ProviderSettings(table.kind, self.home, self.clock, environment.variables(), table.own)
        return registry.open_stop_keys(settings)

    def limits(self) -> AccountLimits | None:
        """The operator's limits on all jobs together."""
        return load_limits(self.home)

    def jobs(self) -> tuple[History, ...]:
        """All jobs of the ledger."""
        return Ledger(self.store).outlined()

    def earlier(self) -> tuple[History, ...]:
        """Closed jobs like this one, the newest first."""
        return Ledger(self.store).earlier(self.job)

    def provider(self) -> Provider:
        """The marketplace."""
        if self._provider is None:
            self._provider = self.open_provider(self.job.provider, self.home, self.clock)
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
        from harness.remote.ssh.connection import Login  # noqa: PLC0415 - loads paramiko

        rental, pin = self.history.alive, self.history.pin
        if rental is None:
            raise HostUnreachable("no instance of this job is alive")
        if self.only_looks and pin is None:
            again = f"Wait until harness run {self.name} has made the box ready; then run the same command again."
            raise HostUnreachable("no host key of the box is pinned yet", remedy=again)
        provider = self.provider()

        def whereabouts() -> Login:  # called from threads of transfers: it must not touch the history
            instance = provider.instance(rental.instance_id)
            if instance is None:
                raise HostUnreachable(
                    f"the provider shows no instance {rental.instance_id}", remedy=InstanceDead.default_remedy
                )
            listed = self.own.known(instance.endpoints) if self.own is not None else ()
            return Login(
                user=user_at(instance.endpoints, self.job),
                endpoints=instance.endpoints,
                key_file=self.key_file,
                host_keys=pin.keys if pin else listed,
                first_use_file=None if self.only_looks else self.directory / f"host-key-{rental.instance_id}",
                own=self.own,
            )

        login, patience = whereabouts(), _GLANCE_S if self.only_looks else self.job.limits.reconnect_s
        if self.own is None and not self.only_looks:
            self._be_let_in(rental.instance_id, login)
        return SshHost(login, self.clock, whereabouts=whereabouts, patience=patience)

    def _be_let_in(self, instance_id: InstanceId, login: Login) -> None:
        """Have the box know this machine's key: another one may have rented it, or the key was lost and made anew."""
        from harness.remote.host import SshHost  # noqa: PLC0415 - loads paramiko

        known = self.directory / f"key-on-{instance_id}"
        if known.exists() and known.read_text(encoding="utf-8") == self.public_key:
            return
        try:
            self.provider().attach_key(instance_id, self.public_key)
        except ProviderUnavailable as unavailable:
            with closing(SshHost(login, self.clock, patience=0)) as host:  # somebody may have put it there by hand
                try:
                    host.run(["true"], timeout=_GLANCE_S)
                except HostUnreachable:
                    raise unavailable from None
        self.directory.mkdir(parents=True, exist_ok=True)
        durable.write(known, self.public_key.encode())

    def read_anew(self) -> None:
        """Forget what the event log told: another process drives the job. Another instance gets another connection."""
        before, self._history = self.history.alive, None
        if self.history.alive != before:
            self.forget_connections()

    def forget_connections(self) -> None:
        """Close what is open; it is opened again, with what is known by then, when next needed."""
        if self._host is not None:
            self._host.close()
            self._host = None

    @property
    def key_file(self) -> Path:
        """The harness's own SSH key for rented boxes; it may not be there yet."""
        return key_of(self.home)


def user_at(endpoints: Iterable[Endpoint], job: Job) -> str:
    """User who logs in to a box: as the provider says, else as the job file does."""
    return next((one.user for one in endpoints if one.user), job.machine.ssh_user)


def open_provider(table: ProviderTable, home: Path, clock: Clock) -> Provider:
    """The provider that a job file's table names; raises BadInput when its kind is unknown or its key is missing."""
    return registry.open_provider(ProviderSettings(table.kind, home, clock, environment.variables(), table.own))


def open_subject(table: ProviderTable, home: Path, clock: Clock) -> Subject:
    """The same provider with what is believed of it; raises BadInput, too, where nobody wrote that down."""
    return registry.open_subject(ProviderSettings(table.kind, home, clock, environment.variables(), table.own))


def open_trial_box(instance: Instance, key_file: Path, pin: Path) -> SshHost:
    """The box of an instance with one key, each way tried once; the first host key that shows is required from then."""
    from harness.remote.host import SshHost  # noqa: PLC0415 - loads paramiko
    from harness.remote.ssh.connection import Login  # noqa: PLC0415 - loads paramiko

    return SshHost(Login("root", instance.endpoints, key_file, (), pin), SystemClock(), patience=0)


def open_wall(kind: str) -> Wall:
    """The wall of a kind of provider's account; raises BadInput for a kind that has no scoped keys."""
    from harness.providers.keeping import KeyStore  # noqa: PLC0415 - few commands need it
    from harness.providers.wall import Wall  # noqa: PLC0415 - few commands need it

    home = environment.home()
    settings = ProviderSettings(kind, home, SystemClock(), environment.variables())
    return Wall(registry.open_key_issuer(settings), KeyStore(home, kind))


@contextmanager
def open_ledger(home: Path | None = None) -> Iterator[Ledger]:
    """The ledger of all jobs."""
    place = home or environment.home()
    yield Ledger(_open_store(place, SystemClock()), place / "jobs")


def imported_jobs(home: Path | None = None) -> Imported:
    """The jobs of other machines that were imported."""
    return Imported((home or environment.home()) / FOLDER)


@contextmanager
def open_context(
    name: str | None,
    *,
    home: Path | None = None,
    new: bool = False,
    only_looks: bool = False,
    choose: Callable[..., JobName] = latest,
    artifact: Path | None = None,
) -> Iterator[OpenContext]:
    """A job's context; without a name, that of the job that moved last, or as ``choose`` says of some stores.

    Raises BadInput when there is none. ``new``: the job need not have begun. ``only_looks``: as in ``OpenContext``.
    ``artifact``: the file, or folder, of a job that was imported. Of such a one nobody is asked, and none begins anew.
    """
    place = home or environment.home()
    clock = SystemClock()
    store, imported = _open_store(place, clock), imported_jobs(place)
    name = named(name) if name else choose(store, imported)
    if name in imported.jobs() and name not in store.jobs():
        if new:
            raise imported.refusal(name)
        yield _elsewhere(imported, name, artifact, clock)
        return
    if artifact is not None:
        raise BadInput(f"--artifact is for a job of another machine, and {name} is this one's: it knows its own")
    context = OpenContext(name, place, store, clock, open_provider, only_looks=only_looks)
    if not new:
        _ = context.history
    if store.shared and not only_looks and name in store.jobs():
        travelling.bring(store, name, context.history, context.directory)
    try:
        yield context
    finally:
        context.forget_connections()


def _open_store(home: Path, clock: Clock, *, scratch: bool = False) -> EventStore:
    """The store of this user's jobs; ``scratch``: one that is gone with its folder."""
    from harness.ledger.sql import open_state, open_store  # noqa: PLC0415 - loads SQLAlchemy

    return open_store(home / environment.STATE_FILE, clock) if scratch else open_state(home, clock)


@contextmanager
def open_look(name: JobName, key: Path | None) -> Iterator[OpenContext]:
    """A context whose event log and files are gone when the block ends, and which opens boxes with own keys alone."""
    with tempfile.TemporaryDirectory(prefix="harness-look-", ignore_cleanup_errors=True) as folder:
        scratch, clock = Path(folder), SystemClock()
        store, own = _open_store(scratch, clock, scratch=True), own_keys(key)
        context = OpenContext(name, environment.home(), store, clock, open_provider, own, scratch)
        try:
            yield context
        finally:
            context.forget_connections()


@contextmanager
def open_bundle(file: Path, artifact: Path | None, folder: Path) -> Iterator[OpenContext]:
    """A context of the job in a bundle, unpacked into ``folder``; ``artifact`` is its file, or folder, on this machine.

    Nobody can be asked from it. Raises BadInput for what is no bundle.
    """
    jobs = Imported(folder)
    yield _elsewhere(jobs, jobs.unpack(file, lambda _told, _folder: None).job, artifact, SystemClock())


def _elsewhere(jobs: Imported, name: JobName, artifact: Path | None, clock: Clock) -> OpenContext:
    """The context of a job that ran on another machine, with its ``artifact`` where it lies on this one."""
    history = placed(folded(name, jobs.records(name)), jobs.folder / name)
    known = history.fetched or history.artifact
    if artifact is not None and known is not None:
        history = replace(history, fetched=LocalFile(artifact.absolute(), known.size, known.sha256))
    folder = jobs.folder / name
    return OpenContext(name, jobs.folder, jobs, clock, _nobody, scratch=folder, only_looks=True, _history=history)


def _nobody(table: ProviderTable, home: Path, clock: Clock) -> Provider:
    del home, clock
    raise ProviderUnavailable(
        f"the provider {table.kind} is not asked about a job of another machine",
        remedy="Run the command where the job ran.",
    )


@contextmanager
def open_first_look(meant: tuple[Job, Path], home: Path) -> Iterator[OpenContext]:
    """A context for a look at a job, from its file, that may not have begun; nothing is written in the home."""
    job, file = meant
    with tempfile.TemporaryDirectory(prefix="harness-look-", ignore_cleanup_errors=True) as folder:
        clock = SystemClock()
        has_state = environment.has_state(home)
        store = _open_store(home if has_state else Path(folder), clock, scratch=not has_state)
        records = store.records(job.name)
        opened = encode(Opened(job.model_dump(mode="json"), str(file.resolve())))
        history = folded(job.name, (*records, chain.seal(chain.head_of(records), job.name, clock.now(), *opened)))
        yield OpenContext(job.name, home, store, clock, open_provider, _history=history)


def own_public_key(home: Path) -> str | None:
    """Public line of the harness's own SSH key, None when there is none yet; raises BadInput for one of no use."""
    from harness.remote.ssh.keys import public_key  # noqa: PLC0415 - loads cryptography

    return public_key(key_of(home)) if key_of(home).exists() else None
