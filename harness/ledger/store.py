"""The port of the event store: the append-only logs of all jobs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from harness.core.ids import JobName, Sha256
from harness.ledger.chain import Record
from harness.ledger.kinds import JobEvent


class EventStore(Protocol):
    """The append-only logs of all jobs. Every method raises StoreFailed when the store cannot be used."""

    def append(self, job: JobName, event: JobEvent, *, expected_seq: int | None = None) -> Record:
        """Add one event; it is on the disk when this returns.

        ``expected_seq`` is the ``seq`` of the newest record that the caller knows, 0 for none:
        raises Conflict, appending nothing, when there is another by now. Not given, the event
        goes behind whatever is there. Raises StoreFailed when a field is not of its type.
        """

    def records(self, job: JobName, *, brief: bool = False) -> tuple[Record, ...]:
        """The job's records in order, their chain verified; empty for a job that has none.

        ``brief``: verified as they are stored, what single checks said, most of a log, may be left out of them.
        """

    def jobs(self) -> tuple[JobName, ...]:
        """Every job that has an event, by name."""

    def outlines(self) -> Mapping[JobName, tuple[Record, ...] | None]:
        """Of every job the events that say where it stands, as ``outline`` picks them: the first and the newest, too.

        Each is as it was written and the newest is the log's head; that the others are, too, only ``records`` tells.
        What single checks said in a gate may be left out of them.
        None for a job of which something is wrong: ``records`` says what.
        """

    def verify(self, job: JobName) -> tuple[str, ...]:
        """Everything that is wrong with the job's log, naming each changed or missing event; empty when it is whole."""

    @property
    def shared(self) -> bool:
        """True for a store that several machines have, each with a home of its own."""

    def keep(self, sha256: Sha256, data: bytes) -> None:
        """Keep a small file under its digest; it is on the disk when this returns."""

    def kept(self, sha256: Sha256) -> bytes | None:
        """Bytes that are kept under a digest, as they are now; None when there are none."""

    def lock(self, job: JobName) -> AbstractContextManager[object]:
        """The job's lease: held by one process at a time. Raises JobBusy naming the holder.

        While it is held, ``append`` takes an event of the job only from its holder; one from whom another has taken it
        over is refused with LeaseLost, in the same transaction.
        """

    def holder(self, job: JobName) -> str | None:
        """The process that has the job, in words; None when nobody has it. A look: nothing is taken."""

    def require_lease(self, job: JobName, *, within_s: float = 0.0) -> None:
        """Raise LeaseLost unless this process has the job by the store's word, which is no older than ``within_s``.

        What cannot be taken back, at the provider or on the box, comes right after. Raises JobBusy for a process that
        has taken no lease while another has one.
        """
