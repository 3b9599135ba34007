"""Jobs that ran on other machines, as their bundles tell: read, judged and reported on here, and driven nowhere.

Each has a folder of its own apart from the store, and owns no instance: its log speaks of the time of its export, and
whoever drives the job does so elsewhere.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.core.canonical import Json
from harness.core.errors import BadInput, LogDamaged, Refused
from harness.core.ids import JobName, Sha256
from harness.core.text import printable
from harness.ledger import bundle, rows
from harness.ledger.bundle import Bundle
from harness.ledger.chain import Record
from harness.ledger.history import placed
from harness.ledger.jobs import folded
from harness.ledger.kinds import JobEvent
from harness.ledger.store import EventStore

FOLDER: Final = "imported"
"""Name of their folder in a home."""


@dataclass(frozen=True, slots=True)
class Imported:
    """An ``EventStore`` of the jobs in a folder, to which nothing is added, and which gives nobody a lock."""

    folder: Path

    def append(self, job: JobName, event: JobEvent, *, expected_seq: int | None = None) -> Record:
        """Raise Refused."""
        del event, expected_seq
        raise self.refusal(job)

    def lock(self, job: JobName) -> AbstractContextManager[None]:
        """Raise Refused."""
        raise self.refusal(job)

    @property
    def shared(self) -> bool:
        """False: its files came with each job."""
        return False

    def keep(self, sha256: Sha256, data: bytes) -> None:
        """Nothing: nothing is recorded here."""

    def kept(self, sha256: Sha256) -> bytes | None:
        """None."""
        del sha256
        return None

    def holder(self, job: JobName) -> str | None:
        """None: nobody here."""
        del job
        return None

    def require_lease(self, job: JobName, *, within_s: float = 0.0) -> None:
        """Raise Refused."""
        del within_s
        raise self.refusal(job)

    def records(self, job: JobName, *, brief: bool = False) -> tuple[Record, ...]:
        """The job's records in order, their chain verified, all of each."""
        del brief
        if job not in self.jobs():
            return ()
        try:
            return bundle.unpacked(self.folder / job).records
        except BadInput as error:
            remedy = f"Import its bundle again, or remove {self.folder / job}."
            raise LogDamaged(f"the log of job {job}, recorded elsewhere: {error}", remedy=remedy) from error

    def jobs(self) -> tuple[JobName, ...]:
        """Every job that was imported, by name."""
        return tuple(JobName(path.parent.name) for path in sorted(self.folder.glob(f"[!.]*/{bundle.LOG}")))

    def outlines(self) -> Mapping[JobName, tuple[Record, ...] | None]:
        """All that is recorded of each job."""
        return {name: self._whole(name) for name in self.jobs()}

    def _whole(self, job: JobName) -> tuple[Record, ...] | None:
        try:
            return self.records(job)
        except LogDamaged:
            return None

    def verify(self, job: JobName) -> tuple[str, ...]:
        """Faults of the job's log, in words; none when it is whole."""
        try:
            self.records(job)
        except LogDamaged as error:
            return (str(error),)
        return ()

    def row(self, name: JobName) -> dict[str, Json]:
        """State of a job as it was recorded, as JSON."""
        try:
            return rows.recorded_elsewhere(placed(folded(name, self.records(name)), self.folder / name))
        except LogDamaged as error:
            return rows.unreadable(name, error)

    def refusal(self, job: JobName) -> Refused:
        """The error for whoever would drive a job here."""
        return Refused(
            f"job {job} was recorded on another machine: it can be judged and reported on here, and not be driven",
            remedy="Drive it where it runs. An instance that nobody drives any more is taken over by harness destroy "
            f"--instance-id N --job-file FILE. To use the name here, remove {self.folder / job}.",
        )

    def unpack(self, file: Path, admit: Callable[[Bundle, Path], None]) -> Bundle:
        """Give the job in a bundle its folder, in the place of an earlier one; raises BadInput for what is none.

        ``admit`` sees the bundle and its files before, and raises for one that is not to be taken.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=self.folder, ignore_cleanup_errors=True) as scratch:
            new = Path(scratch) / "new"
            told = bundle.read(file, new)
            admit(told, new)
            with suppress(FileNotFoundError):
                os.replace(self.folder / told.job, Path(scratch) / "old")  # noqa: PTH105 - a folder, in one step
            os.replace(new, self.folder / told.job)  # noqa: PTH105 - see above
        return told

    def bring(self, file: Path, own: EventStore) -> Bundle:
        """Import a bundle. Raises BadInput for one that was changed, and where the job is here with another history."""

        def admit(told: Bundle, folder: Path) -> None:
            name = told.job
            if spoilt := bundle.changed(folded(name, told.records), folder):
                raise BadInput(
                    f"{printable(str(file))} was changed: the log of job {name} names another SHA-256 of "
                    f"{printable(', '.join(spoilt), 300)}"
                )
            if here := own.records(name):
                raise BadInput(
                    f"job {name} has begun in this home, with {_beside(told.records, here)}",
                    remedy="Nothing is to be imported: this home drives the job. To judge the bundle by itself, give "
                    "it to pytest with --bundle.",
                )
            here = self.records(name)
            if here != told.records[: len(here)]:
                raise BadInput(
                    f"job {name} was imported before, with {_beside(told.records, here)}",
                    remedy=f"To have this one instead, remove {self.folder / name} first.",
                )

        return self.unpack(file, admit)


def _beside(told: tuple[Record, ...], here: tuple[Record, ...]) -> str:
    """The history that is here, in words, beside the one that a bundle tells."""
    common = sum(mine.digest == theirs.digest for mine, theirs in zip(here, told, strict=False))
    if common < min(len(here), len(told)):
        return f"another history: the two part at event {common + 1}"
    if len(here) > common:
        return f"the same history, and {len(here) - common} events more"
    return "the same history" + (f", without its last {len(told) - common} events" if len(told) > common else "")
