"""The job context: one job with its history, its directory, its provider and its box, for whoever works on it.

Three Protocols of one family: looking needs the first, writing to the event log the second, driving the job the third.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from harness.core.ports import Clock, Host, Provider
from harness.core.rate import Meter
from harness.gates.facts_file import TakenFacts
from harness.job.model import Job

if TYPE_CHECKING:  # a gate judges recorded facts, and starts without the ledger
    from harness.ledger.history import History
    from harness.ledger.kinds import JobEvent
    from harness.ledger.limits import AccountLimits
    from harness.ledger.ownership import Known
    from harness.providers.scoped_keys import StopKeyIssuer


class JobContext(Protocol):
    """Everything that belongs to one job; adapters are opened when they are first asked for."""

    @property
    def job(self) -> Job:
        """The job's configuration."""

    @property
    def directory(self) -> Path:
        """The job's own folder: package/, evidence/, artifact/, the report."""

    @property
    def clock(self) -> Clock:
        """Time."""

    @property
    def history(self) -> History:
        """Events of the job so far, folded."""

    @property
    def public_key(self) -> str:
        """The SSH public key that the box must accept; raises a HarnessError when the pair is unusable."""

    @property
    def destination(self) -> Path:
        """The folder on this machine where the artifact is to arrive."""

    def show(self, meter: Meter, done: int, total: int) -> None:
        """Tell whoever watches how far a long look is."""

    def known(self) -> Known:
        """All that the ledger's jobs have had at this job's provider, and the logs that do not read."""

    def earlier(self) -> tuple[History, ...]:
        """Closed jobs like this one, the newest first: what they took is what it may take."""

    def provider(self) -> Provider:
        """The marketplace; raises a HarnessError when it cannot be opened."""

    def host(self) -> Host:
        """The rented box; raises HostUnreachable when there is none."""

    def fresh_host(self) -> Host:
        """The rented box over a connection of its own, to be closed by the caller."""


class RecordingContext(JobContext, Protocol):
    """A context that can also write to the job's event log."""

    def record(self, event: JobEvent) -> None:
        """Append an event; it is on the disk when this returns."""

    def require_lease(self, *, within_s: float = 0.0) -> None:
        """Raise LeaseLost unless this process still drives the job, by the store's word of now.

        It comes right before every act on provider and box that another driver of the job could not take back; a word
        that is no older than ``within_s`` will do for what is only looked at.
        """


class RunnerContext(RecordingContext, Protocol):
    """A context that a job can be driven from."""

    def stop_keys(self) -> StopKeyIssuer:
        """The provider's keys that stop one instance and do nothing else; raises BadInput where it has none."""

    def limits(self) -> AccountLimits | None:
        """The operator's limits on all jobs together; None where none are stated. Raises BadInput."""

    def jobs(self) -> tuple[History, ...]:
        """All jobs of the ledger, this one too, by the events that say where each stands and what it costs.

        Raises LogDamaged for one that does not read: what it has cost is not known.
        """

    def take_facts(self, stage: str) -> TakenFacts:
        """Look at a stage's world once and write down what was seen."""

    def forget_connections(self) -> None:
        """Close what is open; it is opened again, with what is known by then, when next needed."""

    def shown_host_key(self) -> str:
        """The host key that the box shows now, before one is pinned."""
