"""``harness destroy``: through the guard, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harness.cli.confirming import confirming, staked
from harness.cli.options import Plain, Yes
from harness.cli.progress_view import open_reporter
from harness.cli.report import reported, spent
from harness.core import environment
from harness.core.clock import SystemClock
from harness.core.errors import BadInput, Refused
from harness.core.ids import InstanceId, JobName
from harness.core.lifecycle import ORDER, Stage
from harness.job.load import load_job
from harness.job.model import Job
from harness.runner import adoption
from harness.runner.run import reopen_if_spoilt
from harness.runner.run import run as run_job
from harness.wiring import OpenContext, open_context, open_ledger, open_provider


def destroy(
    job: Annotated[str | None, typer.Argument(help="The job's name.", show_default="the one that moved last")] = None,
    instance_id: Annotated[int | None, typer.Option(help="The instance, in place of the job's name.")] = None,
    job_file: Annotated[
        Path | None,
        typer.Option(help="For an instance that no job here has rented: what its training should have been."),
    ] = None,
    yes: Yes = False,
    plain: Plain = False,
) -> None:
    """Destroy an instance: only when the verified file is here, matches its release, and you agree.

    One that no job here has rented is taken over first: with --job-file it is looked at, its model brought home
    and verified; on any doubt it stays.
    """
    expected = None if job_file is None else load_job(job_file)
    if expected is not None and (instance_id is None or job is not None):
        raise BadInput("--job-file goes with --instance-id, and with no job's name")
    if job is not None and instance_id is not None:
        raise BadInput(f"{job} and --instance-id {instance_id} are both named: one says what is to be destroyed")
    name = job if instance_id is None else _job_of(InstanceId(instance_id), expected, job_file)
    console = Console()
    with open_context(name) as context, context.store.lock(context.name):
        if expected is not None and job_file is not None:
            adoption.expect(context, expected, job_file.resolve())
        if instance_id is not None:
            _refuse_forgotten(context, InstanceId(instance_id))
        with staked(context, console):
            _require_verified(context)
        reporting = open_reporter(console, plain, spent=lambda: spent(context))
        with reported(context, console), reporting as reporter:
            if context.history.closed:
                reporter.note(f"job {context.name} is closed: its file is verified, its instance destroyed")
                return
            if context.job.adopted:
                reopen_if_spoilt(context, reporter)
            run_job(context, reporter, confirming(context, console, reporter, yes=yes))


def _refuse_forgotten(context: OpenContext, instance_id: InstanceId) -> None:
    """Raise Refused for an instance that shows although its job has proven it gone: nothing more is done about it."""
    if context.history.alive is None and context.provider().instance(instance_id) is not None:
        raise Refused(
            f"job {context.name} has proven that instance {instance_id} is gone, and the provider shows it",
            remedy="It may bill: look at the provider's console. harness orphans lists all that is alive.",
        )


def _require_verified(context: OpenContext) -> None:
    stage = context.history.stage
    if context.job.adopted or stage is None:
        return
    if ORDER.index(stage) <= ORDER.index(Stage.POSTDOWNLOAD):
        raise Refused(
            f"job {context.name} is at stage {stage}: its artifact is not verified on this machine",
            remedy="harness run JOB brings it home and verifies it first.",
        )


def _job_of(instance_id: InstanceId, expected: Job | None, file: Path | None) -> JobName:
    """The job that has the instance, or the one that takes it over now."""
    with open_ledger() as ledger:
        owner = ledger.owner(instance_id, expected.provider if expected else None)
        if owner is not None:
            _require_adopted(owner, ledger.adopted(owner), expected)
            return owner
        if expected is None or file is None:
            raise Refused(
                f"no job in this ledger has rented instance {instance_id}: nothing of it is known to be safe",
                remedy="With --job-file FILE, which says what its training should have been, it is taken over: "
                "looked at, its model brought home and verified, and only then destroyed.",
            )
        provider = open_provider(expected.provider, environment.home(), SystemClock())
        name = adoption.adopted_name(expected, instance_id)
        with ledger.store.lock(name):
            return adoption.adopt(ledger.store, provider, expected, file.resolve(), instance_id)


def _require_adopted(owner: JobName, adopted: bool, expected: Job | None) -> None:
    if expected is not None and not adopted:
        raise BadInput(
            f"job {owner} has rented this instance, and knows what its training should be",
            remedy=f"Without --job-file: harness destroy {owner}.",
        )
