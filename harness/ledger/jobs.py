"""All jobs of this user, as their logs tell: which there are, where they stand, which of them has an instance."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.canonical import Json
from harness.core.clock import SystemClock
from harness.core.errors import BadInput, LogDamaged
from harness.core.ids import InstanceId, JobName, job_name
from harness.core.text import did_you_mean
from harness.job.model import Job
from harness.ledger import rows
from harness.ledger.chain import Record
from harness.ledger.events import Closed, Opened
from harness.ledger.history import History, fold, placed
from harness.ledger.remembered import remembered
from harness.ledger.store import EventStore

if TYPE_CHECKING:
    from harness.job.provider import ProviderTable
    from harness.ledger.ownership import Known
    from harness.ledger.throwaway import Throwaway


@dataclass(frozen=True, slots=True)
class Ledger:
    """All jobs of this user, for looking only; ``folders`` holds the folder of each, where it is looked at, too."""

    store: EventStore
    folders: Path | None = None

    def read(self) -> tuple[Mapping[JobName, History], Mapping[JobName, LogDamaged]]:
        """Every job's history, and why the others have none; raises StoreFailed when there is no store to read.

        Each log is verified whole; what single checks said in a gate may be left out of the histories.
        """
        histories: dict[JobName, History] = {}
        unreadable: dict[JobName, LogDamaged] = {}
        for name in self.store.jobs():
            try:
                histories[name] = folded(name, self.store.records(name, brief=True))
            except LogDamaged as error:
                unreadable[name] = error
        return histories, unreadable

    def outlined(self) -> tuple[History, ...]:
        """Every job, from the outline of its log; raises LogDamaged for one that does not read."""
        return tuple(
            folded(name, outline or self.store.records(name, brief=True))
            for name, outline in self.store.outlines().items()
        )

    def known(self, at: ProviderTable) -> Known:
        """Everything that all jobs have had at a provider, as far as their logs read."""
        from harness.ledger import ownership  # noqa: PLC0415 - a list of jobs needs none

        histories, unreadable = self.read()
        return ownership.known(histories.values(), at, unreadable, self.throwaways())

    def throwaways(self) -> tuple[Throwaway, ...]:
        """Every conformance run of this user; none where the folders are not looked at."""
        from harness.ledger import throwaway  # noqa: PLC0415 - a list of jobs needs none

        return () if self.folders is None else throwaway.runs(self.folders.parent, SystemClock())

    def closed(self) -> frozenset[JobName]:
        """The jobs that are over, as far as their logs read."""
        return frozenset(name for name, history in self.read()[0].items() if history.closed)

    def earlier(self, job: Job) -> tuple[History, ...]:
        """Closed jobs whose times are a measure of this one's, the newest first, as far as their logs read."""
        from harness.ledger import timings  # noqa: PLC0415 - a list of jobs needs none

        found: list[tuple[float, History]] = []
        for name, outline in self.store.outlines().items():
            if outline and any(record.kind == Closed.kind for record in outline):
                with suppress(LogDamaged):
                    if timings.alike(folded(name, outline).job, job):
                        found.append((outline[-1].at, folded(name, self.store.records(name, brief=True))))
        return tuple(history for _, history in sorted(found, key=lambda one: one[0], reverse=True))

    def lost(self) -> Mapping[JobName, LogDamaged]:
        """Jobs that had an instance by what lies in their folders, and of which the store knows nothing at all."""
        if self.folders is None or not self.folders.is_dir():
            return {}
        known = set(self.store.jobs())
        found: dict[JobName, LogDamaged] = {}
        for folder in sorted(self.folders.iterdir()):
            had = () if folder.name in known else remembered(folder, JobName(folder.name))
            if had:
                found[JobName(folder.name)] = _lost(folder, had[-1].instance_id)
        return found

    def require_log(self, name: JobName) -> None:
        """Raise LogDamaged for a job whose folder tells of an instance, and whose log is gone."""
        error = self.lost().get(name)
        if error is not None:
            raise error

    def owner(self, instance_id: InstanceId, at: ProviderTable | None = None) -> JobName | None:
        """The job that has an instance, one that may be billing before one that is over.

        ``at``: only a job at this provider; another one's numbers mean other instances. Raises LogDamaged when
        none has it, and a log that does not read may be that job's.
        """
        from harness.ledger.ownership import place  # noqa: PLC0415 - a list of jobs needs none

        histories, unreadable = self.read()
        having = [
            (history.alive is None, name)
            for name, history in histories.items()
            if history.rental is not None and history.rental.instance_id == instance_id
            if at is None or place(history.job.provider) == place(at)
        ]
        if having:
            return min(having)[1]
        for error in unreadable.values():
            raise error
        return None

    def no_job(self, name: str) -> BadInput:
        """The error for a name that no job has; raises LogDamaged instead for one whose log is gone."""
        self.require_log(JobName(name))
        where = f" in {self.folders.parent}" if self.folders is not None else ""
        return BadInput(
            f"there is no job {name!r}{where}",
            remedy=f"{did_you_mean(name, self.store.jobs())}harness status lists the jobs.",
        )

    def begun(self, name: str) -> tuple[Job, Path] | None:
        """The configuration that a job was last run with, and its file; None when no job has that name.

        Raises LogDamaged for one whose log is gone.
        """
        if name not in self.store.jobs():
            self.require_log(JobName(name))
            return None
        history = folded(named(name), self.store.records(named(name), brief=True))
        return history.job, Path(history.all(Opened)[-1].file)

    def adopted(self, name: JobName) -> bool:
        """True for a job that took its instance over."""
        return folded(name, self.store.records(name, brief=True)).job.adopted

    def rows(self, now: float) -> list[dict[str, Json]]:
        """State of every job, told from the outline of its log; of one whose outline is odd, from the whole of it."""
        told = []
        for name, records in self.store.outlines().items():
            try:
                told.append(self._row(name, fold(records), now) if records else self.row(name, now))
            except (ValueError, KeyError, TypeError):
                told.append(self.row(name, now))
        return [*told, *(rows.unreadable(name, error) for name, error in self.lost().items())]

    def row(self, name: JobName, now: float) -> dict[str, Json]:
        """State of a job, as JSON; of one whose log does not read, why, under ``unreadable``."""
        try:
            records = self.store.records(name)
            if not records:
                raise self.no_job(name)
            history = folded(name, records)
        except LogDamaged as error:
            return rows.unreadable(name, error)
        return self._row(name, history, now)

    def _row(self, name: JobName, history: History, now: float) -> dict[str, Json]:
        there = history if self.folders is None else placed(history, self.folders / name)
        return rows.row(there, now, forgotten=history.rental is None and self._forgets(name, history))

    def _forgets(self, name: JobName, history: History) -> bool:
        """True when the job's folder tells of an instance of which its log, an older one, knows nothing."""
        told = () if self.folders is None else remembered(self.folders / name, name)
        return any(one.label not in history.labels for one in told)


def _lost(folder: Path, instance_id: InstanceId) -> LogDamaged:
    return LogDamaged(
        f"the event log knows nothing of job {folder.name}, whose folder {folder} tells of instance {instance_id}: "
        "the log was lost or replaced",
        remedy="Put the newest copy of state.db back. Without one: harness destroy --instance-id "
        f"{instance_id} --job-file FILE takes the instance over and brings its model home. When nothing of it bills "
        "any more (harness orphans), move the folder away: a job of that name then begins anew.",
    )


def sole(*stores: EventStore) -> JobName:
    """The only job there is; raises BadInput when there are others, for a verdict about another job is none."""
    names = sorted({name for store in stores for name in store.jobs()})
    if len(names) > 1:
        raise BadInput(f"which job is meant? There are {', '.join(names)}", remedy="Name it: --job=NAME")
    return latest(*stores)


def latest(*stores: EventStore) -> JobName:
    """The job whose log was last written to, in the first store that has one; raises BadInput when there is none."""
    store = next((store for store in stores if store.jobs()), stores[0])
    try:
        newest = {name: (told or store.records(name))[-1].at for name, told in store.outlines().items()}
    except LogDamaged as error:
        raise LogDamaged(
            f"which job moved last cannot be told: {error}", remedy=f"Name the job that is meant. {error.remedy}"
        ) from error
    if not newest:
        raise BadInput("no job has been run yet", remedy="harness demo runs one on this machine.")
    return max(newest, key=lambda name: newest[name])


def folded(name: JobName, records: tuple[Record, ...]) -> History:
    """The history that a job's records amount to; raises LogDamaged when they do not read."""
    try:
        return fold(records)
    except (ValueError, KeyError, TypeError) as error:
        raise LogDamaged(f"the event log of job {name} does not read: {error}") from error


def named(name: str) -> JobName:
    """A job's name as it was typed; raises BadInput when it cannot be one."""
    try:
        return job_name(name)
    except ValueError as error:
        raise BadInput(str(error)) from error
