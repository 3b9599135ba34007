"""One fleet in DBOS: its queue, and a workflow for each of its jobs. All of it is DBOS's public interface."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from harness.core import environment
from harness.core.clock import SystemClock
from harness.core.errors import BadInput, Conflict, JobBusy, MissingExtra
from harness.core.ids import JobName, job_name
from harness.core.text import did_you_mean, printable
from harness.fleet.file import Fleet
from harness.ledger import database
from harness.ledger.database import Database
from harness.ledger.store import EventStore

if TYPE_CHECKING:
    from dbos import DBOSClient, WorkflowStatus

APPLICATION = "harness-fleet"
VERSION = "1"
"""Version of the workflow's shape: workers of the same one take each other's jobs over, whatever else differs."""
WORKFLOW = "drive_job"


class FleetState(StrEnum):
    """State of the whole fleet."""

    RUNNING = "running"
    PAUSED = "paused"
    """No job begins; what runs goes on to its end."""
    DRAINING = "draining"
    """As paused, and each worker ends when it drives nothing any more."""


class JobPlace(StrEnum):
    """State of one job in the fleet."""

    ABSENT = "not begun"
    WAITING = "waiting"
    DRIVEN = "driven"
    DONE = "done"
    HELD = "held"


_PLACES: Mapping[str, JobPlace] = {
    "ENQUEUED": JobPlace.WAITING,
    "DELAYED": JobPlace.WAITING,
    "PENDING": JobPlace.DRIVEN,
    "SUCCESS": JobPlace.DONE,
}
"""By DBOS's status of the workflow; any other one has ended without having brought the job to its end."""


@dataclass(frozen=True, slots=True)
class Standpoint:
    """A job's place in the fleet: the worker that has it, or why it is held."""

    place: JobPlace
    worker: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Engine:
    """The fleet's queue and workflows, from any process: it drives nothing itself."""

    fleet: Fleet
    client: DBOSClient

    @property
    def queue(self) -> str:
        """Name of the fleet's queue, and the beginning of its workflows' ids."""
        return f"fleet/{self.fleet.name}"

    def workflow(self, job: str) -> str:
        """Id of a job's workflow: asked for twice, there is one."""
        return f"{self.queue}/{job}"

    def standing(self) -> FleetState | None:
        """State of the fleet; None before its first worker."""
        queue = self.client.retrieve_queue(self.queue)
        if queue is None:
            return None
        if queue.worker_concurrency != 0:
            return FleetState.RUNNING
        return FleetState.PAUSED if queue.global_concurrency else FleetState.DRAINING

    def stand(self, standing: FleetState) -> None:
        """Bring the fleet to this state, with the limits of the file; every worker hears of it within seconds."""
        fleet, runs = self.fleet, standing is FleetState.RUNNING
        self.client.register_queue(
            self.queue,
            global_concurrency=0 if standing is FleetState.DRAINING else fleet.concurrency,
            worker_concurrency=fleet.concurrency_per_worker if runs else 0,
            limiter={"limit": fleet.rate.jobs, "period": fleet.rate.per_s} if fleet.rate else None,
            application_name=APPLICATION,
        )

    def enqueue(self) -> None:
        """Have every job of the file wait for a worker, once: one that waits, runs, ended or is held stays as it is."""
        for name, entry in self.fleet.jobs.items():
            self.client.enqueue(
                {
                    "workflow_name": WORKFLOW,
                    "queue_name": self.queue,
                    "workflow_id": self.workflow(name),
                    "app_version": VERSION,
                    "application_name": APPLICATION,
                    "priority": entry.priority,
                },
                name,
            )

    def standpoints(self) -> dict[JobName, Standpoint]:
        """JobPlace of every job: those of the file in its order, then those that it does not name any more."""
        told = {
            JobName(one.workflow_id.removeprefix(self.workflow(""))): _standpoint(one)
            for one in self.client.list_workflows(queue_name=self.queue, load_input=False)
        }
        absent = Standpoint(JobPlace.ABSENT)
        return {**{name: told.get(name, absent) for name in self.fleet.jobs}, **told}

    def take_up(self, jobs: Sequence[str]) -> None:
        """Have held jobs wait for a worker again, from the stage that held them. Raises BadInput for any other job."""
        known = self.standpoints()
        for job in jobs:
            place = known[JobName(job)].place if job in known else None
            if place is not JobPlace.HELD:
                said = f"{place.value}, and not held" if place else "no job of this fleet"
                raise BadInput(
                    f"fleet {self.fleet.name}: {job} is {said}",
                    remedy=f"{'' if place else did_you_mean(job, [*known])}harness fleet status shows which are held.",
                )
        for job in dict.fromkeys(jobs):
            steps = self.client.list_workflow_steps(self.workflow(job), load_output=False)
            last = max((one["function_id"] for one in steps), default=1)
            self.client.rewind_workflow(self.workflow(job), start_step=last, queue_name=self.queue)

    def put_back(self, worker: str) -> tuple[JobName, ...]:
        """Have what a worker drives wait for any worker; whatever it still records of that is refused by DBOS."""
        jobs = tuple(JobName(one.workflow_id.removeprefix(self.workflow(""))) for one in self._driven(worker))
        self.client.resume_workflows([*map(self.workflow, jobs)], queue_name=self.queue)
        return jobs

    def take_over(self, store: EventStore, ours: str) -> Iterator[JobName]:
        """Put back what every worker drives whose lease is free: it has died, or is out of reach."""
        for worker in {one.executor_id for one in self._driven()} - {ours}:
            try:
                lease = job_name(worker or "")
            except ValueError:
                continue  # no worker of the harness
            try:
                with store.lock(lease):  # under which it is looked again: another worker may have done so by now
                    yield from self.put_back(lease)
            except JobBusy:
                continue

    def drives(self, worker: str) -> bool:
        """True while a worker has a job."""
        return bool(self._driven(worker))

    def _driven(self, worker: str | None = None) -> list[WorkflowStatus]:
        return self.client.list_workflows(
            queue_name=self.queue, status="PENDING", executor_id=worker, load_input=False, load_output=False
        )


def _standpoint(one: WorkflowStatus) -> Standpoint:
    place = _PLACES.get(one.status, JobPlace.HELD)
    why = str(one.error or f"its workflow is {one.status}") if place is JobPlace.HELD else ""
    return Standpoint(place, (one.executor_id or "") if place is JobPlace.DRIVEN else "", printable(why, 1000))


def database_url(home: Path) -> str:
    """Database of DBOS: the server of HARNESS_STATE, where all machines meet; else a file beside the event store.

    Raises BadInput for a URL that is none, StoreFailed when a server does not answer.
    """
    return _url(_state(home))


def _state(home: Path) -> Database:
    return database.named(environment.state_url() or home / environment.STATE_FILE, SystemClock())


def _url(known: Database) -> str:
    if known.path is not None:
        known.path.parent.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{known.path.with_name('fleet.db').as_posix()}"
    known.run(lambda _: None, patience_s=0)
    return known.engine.url.render_as_string(hide_password=False)


@contextmanager
def open_engine(fleet: Fleet, home: Path, *, patient: bool = False) -> Iterator[Engine]:
    """The engine of a fleet, its tables made where they are missing.

    ``patient``: a database that goes away is waited for. Raises MissingExtra, and StoreFailed for what the database
    raises.
    """
    try:
        from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer  # noqa: PLC0415 - an extra
        from dbos import error as dbos  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtra("harness fleet", "fleet") from error
    state = _state(home)
    url = _url(state)
    try:
        DBOS.migrate(url)
        client = DBOSClient(
            system_database_url=url,
            serializer=DBOSPortableJSONSerializer(),
            application_name=APPLICATION,
            retry_connection_errors=patient,
        )
        try:
            yield Engine(fleet, client)
        finally:
            client.destroy()
    except SQLAlchemyError as error:
        raise state.failed(error, "the tables of the fleets in ") from None
    except dbos.DBOSException as error:  # another person came between
        raise Conflict(f"fleet {fleet.name}: {printable(str(error), 300)}") from error
