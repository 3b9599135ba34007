"""``harness destroy``: through the guard, or not at all."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from harness.cli.confirming import confirming
from harness.cli.jobs import Plain, Yes, spent, write_report
from harness.cli.narration import open_narrator
from harness.errors import Refused
from harness.ids import InstanceId
from harness.lifecycle import ORDER, Stage
from harness.runner.run import run as run_job
from harness.wiring import JobDesk, open_desk, open_ledger


def destroy(
    job: Annotated[str | None, typer.Argument(help="The job's name.", show_default="the one that moved last")] = None,
    instance_id: Annotated[int | None, typer.Option(help="The instance, in place of the job's name.")] = None,
    yes: Yes = False,
    plain: Plain = False,
) -> None:
    """Destroy a job's instance: only when the verified file is here, matches its release, and you agree."""
    name = job if instance_id is None else _owner(InstanceId(instance_id))
    console = Console()
    with open_desk(name) as desk, desk.store.lock(desk.name):
        _require_verified(desk)
        with open_narrator(console, plain, spent=lambda: spent(desk)) as narrator:
            run_job(desk, narrator, confirming(desk.job, console, narrator, yes=yes))
        markdown, *_ = write_report(desk)
        console.print(f"report: {markdown}", markup=False, soft_wrap=True, highlight=False)


def _require_verified(desk: JobDesk) -> None:
    stage = desk.history.stage
    if stage is not None and ORDER.index(stage) <= ORDER.index(Stage.POSTDOWNLOAD):
        raise Refused(
            f"job {desk.name} is at stage {stage}: its artifact is not verified on this machine",
            remedy="harness run JOB brings it home and verifies it first.",
        )


def _owner(instance_id: InstanceId) -> str:
    with open_ledger() as ledger:
        owner = ledger.owner(instance_id)
    if owner is None:
        raise Refused(
            f"no job in this ledger has rented instance {instance_id}: nothing of it is known to be safe",
            remedy="harness download --instance-id brings its file home and verifies it; the console can destroy it.",
        )
    return owner
