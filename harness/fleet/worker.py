"""A worker: drives jobs of one fleet, each stage in a process of its own, until all have ended or it is told to end."""

from __future__ import annotations

import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import OperationalError

from harness.core.errors import BadInput
from harness.core.ids import JobName, job_name, new_nonce
from harness.core.lifecycle import ORDER, Stage
from harness.core.ports import Clock
from harness.core.text import printable
from harness.fleet.consequence import WAITS_S, Consequence, consequence
from harness.fleet.engine import APPLICATION, VERSION, WORKFLOW, Engine, FleetState, JobPlace, Standpoint, database_url
from harness.fleet.file import load_fleet
from harness.ledger.store import EventStore

if TYPE_CHECKING:
    from dbos import DBOS

_LOOK_S = 2.0
_BUSY_S = 5.0
_SURE_S = 20.0
"""Age (seconds) to which the word that this worker's lease stands will do: it is renewed more often than that."""
_ENDING_S = 120
"""Seconds in which what is being driven is put back when the worker is told to end."""
_TAIL = 4000
# A session (POSIX) or group (Windows) of its own: a Ctrl-C in the terminal reaches the worker alone, which then asks
# what it drives to end.
_APART: dict[str, Any]
if sys.platform == "win32":
    _APART = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    _END = signal.CTRL_BREAK_EVENT
else:
    _APART = {"start_new_session": True}
    _END = signal.SIGTERM


class JobHeld(Exception):
    """A job does not move until a person has done something."""


class _NotHere(BaseException):
    """The job goes on elsewhere. No mere Exception, which DBOS would record as the end of the workflow."""


def _own_name() -> JobName:
    """Name of this process as a worker, also that of its lease."""
    host = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in platform.node().lower())
    return job_name(f"worker-{host[:40]}-{new_nonce()}")


@dataclass(slots=True)
class Worker:
    """One process that drives jobs.

    ``name`` is also that of its lease, held for as long as it lives: who finds that free takes its jobs over.
    """

    file: Path
    home: Path
    engine: Engine
    store: EventStore
    clock: Clock
    told: Callable[[str], None]
    program: tuple[str, ...] = (sys.executable, "-m", "harness")
    """The command line whose ``run`` drives a job."""
    name: JobName = field(default_factory=_own_name)
    _ending: threading.Event = field(default_factory=threading.Event)
    _starting: threading.Lock = field(default_factory=threading.Lock)
    _driving: set[subprocess.Popen[bytes]] = field(default_factory=set)

    def work(self, *, stay: bool = False) -> dict[JobName, Standpoint]:
        """Drive jobs until none waits or is driven (``stay``: for ever), or the fleet is drained; where all stand then.

        Whatever breaks it off puts the jobs that it drives back for any worker, and is raised again.
        """
        with self.store.lock(self.name), self._launched():
            if self.engine.standing() in {None, FleetState.RUNNING}:
                self.engine.stand(FleetState.RUNNING)  # with the limits that the file says by now
            self.engine.enqueue()
            while True:
                self.store.require_lease(self.name, within_s=_SURE_S)  # waits for a server, and not for ever
                with suppress(OperationalError):  # the server is away, and says nothing: what is driven goes on
                    known = self._look()
                    at_rest = all(one.place in {JobPlace.DONE, JobPlace.HELD} for one in known.values())
                    if (at_rest and not stay) or self._is_drained():
                        return known
                self.clock.sleep(_LOOK_S)

    def _look(self) -> dict[JobName, Standpoint]:
        """Take over from workers that are gone; where all jobs stand."""
        for job in self.engine.take_over(self.store, self.name):
            self.told(f"{job}: its worker is gone; it waits for another")
        return self.engine.standpoints()

    def _is_drained(self) -> bool:
        """True when the fleet is being drained and nothing is left here."""
        return self.engine.standing() is FleetState.DRAINING and not self.engine.drives(self.name)

    @contextmanager
    def _launched(self) -> Iterator[type[DBOS]]:
        """DBOS in this process, taking from the fleet's queue alone while the block runs."""
        from dbos import DBOS, DBOSPortableJSONSerializer, error  # noqa: PLC0415 - an extra

        DBOS(
            config={
                "name": APPLICATION,
                "application_version": VERSION,
                "executor_id": self.name,
                "system_database_url": database_url(self.home),
                "serializer": DBOSPortableJSONSerializer(),
                "log_level": "CRITICAL",  # what it says of a job is said in the harness's own words
                "use_listen_notify": False,
            }
        )

        @DBOS.step(name="drive_stage")
        def drive_stage(job: str, stage: str) -> None:
            self._drive(job_name(job), Stage(stage))

        @DBOS.workflow(name=WORKFLOW)
        def drive_job(job: str) -> None:
            try:
                for stage in ORDER:
                    drive_stage(job, str(stage))
            except error.DBOSWorkflowConflictIDError as lost:  # another worker has it, for ours was not heard from
                raise _NotHere from lost
            except JobHeld as held:
                self.told(f"{job}: held: {held}")
                raise
            self.told(f"{job}: done")

        DBOS.listen_queues([self.engine.queue])
        DBOS.launch()
        try:
            yield DBOS
        finally:
            self._end()
            DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=_ENDING_S)
            self.engine.put_back(self.name)

    def _end(self) -> None:
        """Begin no stage any more, and interrupt those that are being driven: their logs say how far they are."""
        with self._starting:
            self._ending.set()
            for process in tuple(self._driving):
                process.send_signal(_END)

    def _drive(self, job: JobName, stage: Stage) -> None:
        """Drive a job through one stage. Raises JobHeld, or _NotHere when the worker ends."""
        log = self.home / "fleets" / self.engine.fleet.name / f"{job}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        for wait_s in (*WAITS_S, None):
            self._await_its_turn(job)
            try:
                code, said = self._run(log, job, stage)
            except BadInput as error:  # of the fleet file, which is read anew each time
                raise JobHeld(str(error)) from error
            ended = consequence(code)
            if ended is Consequence.PASSED:
                self.told(f"{job}: {stage} passed")
                return
            if self._ending.is_set():
                raise _NotHere
            if ended is Consequence.HELD or wait_s is None:
                raise JobHeld(f"{stage}: {said}")
            self.told(f"{job}: {stage} did not pass (exit code {code}); again in {wait_s:.0f} s: {said}")
            self._ending.wait(wait_s)

    def _await_its_turn(self, job: JobName) -> None:
        """Wait while another process drives the job: a person, or what a dead worker began. Raises _NotHere."""
        while self.store.holder(job) is not None:
            if self._ending.wait(_BUSY_S):
                raise _NotHere

    def _run(self, log: Path, job: JobName, stage: Stage) -> tuple[int, str]:
        """Exit code of ``harness run`` for one stage, and the last that it said; all of that is in ``log``."""
        command = [*self.program, "run", *load_fleet(self.file).options(job, stage)]
        with log.open("ab") as output:
            began = output.tell()
            with self._starting:
                if self._ending.is_set():
                    raise _NotHere
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **_APART
                )
                self._driving.add(process)
            try:
                code = process.wait()
            finally:
                self._driving.discard(process)
        with log.open("rb") as said:
            said.seek(max(began, log.stat().st_size - _TAIL))
            text = said.read(_TAIL).decode("utf-8", "replace")
        last = text.rpartition("error: ")[2].split()
        return code, printable(" ".join(last), 600) or f"exit code {code}, without a word"
