"""The fleet file: which jobs, in which order, how many at once, and what is agreed to in advance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from harness.core.errors import BadInput
from harness.core.ids import JobName, job_name
from harness.core.lifecycle import Stage
from harness.core.text import printable
from harness.job.load import load_job, load_table, path_in
from harness.job.model import Job
from harness.job.table import Table

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0, le=2**31 - 1)]
"""A whole number as DBOS's tables hold it."""


class Rate(Table):
    """Most jobs that begin in a while, all workers together: a job's beginning is what asks a provider most."""

    jobs: Count
    per_s: Annotated[float, Field(ge=0.001, le=366 * 86_400)]


class Agreed(Table):
    """Costs and acts to which the file agrees in a person's name."""

    budget_usd: Positive
    """Most that the budgets (``limits.budget_usd``) of all jobs may come to; within them, each job may rent."""
    destroy: bool = False
    """Each job's instance is destroyed once its verified model is here; not given, every job waits for that word."""


class FleetJob(Table):
    """One job of the fleet."""

    file: str
    priority: Count = 1
    """The lower, the earlier it begins."""


class _File(Table):
    name: str
    concurrency: Count
    concurrency_per_worker: Count | None = None
    rate: Rate | None = None
    agreed: Agreed
    jobs: Annotated[tuple[FleetJob, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits(self) -> _File:
        if (self.concurrency_per_worker or 0) > self.concurrency:
            raise ValueError("concurrency_per_worker is more than concurrency, which all workers share")
        return self


@dataclass(frozen=True, slots=True)
class FleetEntry:
    """A job of the fleet, its file read."""

    job: Job
    file: Path
    priority: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet file and the job files that it names, as they are at this moment."""

    name: str
    concurrency: int
    concurrency_per_worker: int | None
    rate: Rate | None
    agreed: Agreed
    jobs: Mapping[JobName, FleetEntry]

    def options(self, job: JobName, stage: Stage) -> tuple[str, ...]:
        """Arguments of ``harness run`` that drive a job through one stage, with what the file agrees to and no more.

        A job that the file does not name is driven by its name, as far as that goes without anybody's word.
        """
        told = str(self.jobs[job].file) if job in self.jobs else str(job)
        yes = job in self.jobs and (self.agreed.destroy or stage is not Stage.TEARDOWN)
        return (told, "--until", str(stage), "--plain", *(["--yes"] if yes else []))


def load_fleet(path: Path) -> Fleet:
    """The fleet of a TOML file; paths in it are relative to it. Raises BadInput, also for a job file that is wrong."""
    try:
        told = _File.model_validate(load_table(path, "fleet file"))
        name = job_name(told.name)
    except ValidationError as error:
        raise BadInput("\n".join([f"{path}: the fleet file does not fit:", *map(_problem, error.errors())])) from error
    except ValueError as error:
        raise BadInput(f"{path}: name: {error}") from error
    fleet = Fleet(name, told.concurrency, told.concurrency_per_worker, told.rate, told.agreed, _jobs(told, path))
    budgets = sum(one.job.limits.budget_usd for one in fleet.jobs.values() if one.job.is_billed)
    if budgets > told.agreed.budget_usd:
        raise BadInput(
            f"{path}: the budgets of its jobs come to ${budgets:.2f}; the file agrees to ${told.agreed.budget_usd:.2f}",
            remedy="Lower limits.budget_usd in the job files, or agree to more with agreed.budget_usd.",
        )
    return fleet


def _jobs(told: _File, path: Path) -> dict[JobName, FleetEntry]:
    found: dict[JobName, FleetEntry] = {}
    for one in told.jobs:
        file = Path(path_in(one.file, path.resolve().parent, f"{path}: jobs.file"))
        job = load_job(file)
        if (known := found.get(job.name)) is not None:
            raise BadInput(
                f"{path}: {known.file} and {file} are both of job {job.name}",
                remedy="Give each job a name of its own.",
            )
        found[job.name] = FleetEntry(job, file, one.priority)
    return found


def _problem(problem: Mapping[str, object]) -> str:
    location = problem["loc"]
    where = ".".join(map(str, location)) if isinstance(location, tuple) else ""
    said = str(problem["msg"]).removeprefix("Value error, ")
    return f"  {where or '(the whole file)'}: {printable(said, 300)}"
