"""The job that an argument names: by its file, or by the name under which it has begun."""

from __future__ import annotations

from pathlib import Path

from harness.core import shipped
from harness.core.errors import BadInput
from harness.core.ids import JobName
from harness.job.load import load_job
from harness.job.model import Job
from harness.wiring import imported_jobs, open_ledger


def job_of(typed: Path) -> tuple[Job, Path]:
    """The job that a file describes, or that has begun under a name, with its file.

    A job that has begun is read from its file again, which may have been mended; where that now
    describes another job, or none, what the job was last run with holds.
    """
    with open_ledger() as ledger:
        begun = None if typed.is_file() else ledger.begun(str(typed))
    if begun is None and not typed.exists():
        if str(typed) in (imported := imported_jobs()).jobs():
            raise imported.refusal(JobName(str(typed)))
        examples = shipped.folder("examples")
        raise BadInput(
            f"cannot read the job file {typed}: there is none, and no job has begun under the name {typed}",
            remedy=f"harness status lists the jobs that have begun; {examples} has job files to copy.",
        )
    if begun is None:
        return load_job(typed), typed
    job, file = begun
    if not file.is_file():
        return job, file
    described = load_job(file)
    return (described if described.name == job.name else job), file
