"""What a stage's look may use: the job, its history, its directory, the provider and the box."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from harness.history import History
from harness.job.model import Job
from harness.orphans import Known
from harness.ports import Clock, Host, Provider


class Desk(Protocol):
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
        """What has happened to the job so far, folded from its event log."""

    @property
    def public_key(self) -> str:
        """The SSH public key that the box must accept; raises a HarnessError when the pair is unusable."""

    @property
    def destination(self) -> Path:
        """The folder on this machine where the artifact is to arrive."""

    def known(self) -> Known:
        """What all jobs in the ledger have had at this job's provider, and which of their logs do not read."""

    def provider(self) -> Provider:
        """The marketplace; raises a HarnessError when it cannot be opened."""

    def host(self) -> Host:
        """The rented box; raises HostUnreachable when there is none."""

    def fresh_host(self) -> Host:
        """The rented box over a connection of its own, to be closed by the caller."""
