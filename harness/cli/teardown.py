"""``harness destroy``: through the guard, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.adopt import job_of, refuse_forgotten
from harness.cli.confirming import confirming, staked
from harness.cli.options import Plain, Yes, instance_option
from harness.cli.progress_view import open_reporter
from harness.cli.report import reported, spent
from harness.cli.screens import LastingConsole
from harness.core.errors import BadInput, Refused
from harness.core.ids import InstanceId
from harness.core.lifecycle import ORDER, Stage
from harness.job.load import load_job
from harness.runner import adoption
from harness.runner.run import reopen_if_spoilt
from harness.runner.run import run as run_job
from harness.wiring import OpenContext, open_context


def destroy(
    job: Annotated[str | None, typer.Argument(help="The job's name.", show_default="the one that moved last")] = None,
    instance_id: Annotated[InstanceId | None, instance_option("The instance, in place of the job's name.")] = None,
    job_file: Annotated[
        Path | None,
        typer.Option(help="For an instance that no job here has rented: what its training should have been."),
    ] = None,
    local_path: Annotated[
        Path | None,
        typer.Option(help="With --job-file: the folder for its model, in place of the one that the file names."),
    ] = None,
    yes: Yes = False,
    plain: Plain = False,
) -> None:
    """Destroy an instance: only when the verified file is here, matches its release, and you agree.

    One that no job here has rented is taken over first: with --job-file it is looked at, its model brought home
    and verified; on any doubt it stays.
    """
    expected = None if job_file is None else load_job(job_file)
    if local_path is not None:
        if expected is None:
            raise BadInput("--local-path goes with --job-file: a job knows its own folder")
        arriving = expected.artifact.model_copy(update={"destination": local_path.resolve()})
        expected = expected.model_copy(update={"artifact": arriving})
    if expected is not None and (instance_id is None or job is not None):
        raise BadInput("--job-file goes with --instance-id, and with no job's name")
    if job is not None and instance_id is not None:
        raise BadInput(f"{job} and --instance-id {instance_id} are both named: one says what is to be destroyed")
    name = job if instance_id is None else job_of(instance_id, expected, job_file)
    console = LastingConsole()
    with open_context(name) as context, context.store.lock(context.name):
        if expected is not None and job_file is not None:
            adoption.expect(context, expected, job_file.resolve())
        if instance_id is not None:
            refuse_forgotten(context, instance_id)
        with staked(context, console):
            _require_verified(context)
        reporting = open_reporter(console, plain, spent=lambda: spent(context))
        with reported(context, console, agreed=yes), reporting as reporter:
            if context.history.closed:
                reporter.note(f"job {context.name} is closed: its file is verified, its instance destroyed")
                return
            if context.job.adopted:
                reopen_if_spoilt(context, reporter)
            run_job(context, reporter, confirming(context, console, reporter, yes=yes))


def _require_verified(context: OpenContext) -> None:
    stage = context.history.stage
    if context.job.adopted or stage is None:
        return
    if ORDER.index(stage) <= ORDER.index(Stage.POSTDOWNLOAD):
        raise Refused(
            f"job {context.name} is at stage {stage}: its artifact is not verified on this machine",
            remedy="harness run JOB brings it home and verifies it first.",
        )
