"""``harness plan``: what a job would rent, how long it would take, what it would cost. It rents nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harness.cli import plan_view
from harness.cli.job_argument import job_of
from harness.core import environment
from harness.core.clock import SystemClock
from harness.ledger.jobs import folded
from harness.runner import renting
from harness.wiring import open_ledger, open_provider


def plan(
    file: Annotated[
        Path, typer.Argument(help="The job file (TOML), or the name of a job that has begun.", metavar="JOB")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="As always: nothing is rented.")] = True,
) -> None:
    """Show the offers that fit a job, its minutes and dollars by part, and its cap; nothing is rented."""
    del dry_run  # known to scripts that say it to harness run
    job, _ = job_of(file)
    with open_ledger() as ledger:
        ledger.require_log(job.name)
        records = ledger.store.records(job.name)
        own, earlier = folded(job.name, records) if records else None, ledger.earlier(job)
    if own is not None and own.in_doubt:
        left = {"job": job.name, "in_doubt": True, "offers": []}
        typer.echo(json.dumps(left, indent=1) if as_json else plan_view.nothing_left(own))
        return
    if own is not None and own.alive is not None:
        rental = own.alive
        price = plan_view.price(job, rental.usd_per_hour)
        had = {"job": job.name, "instance_id": rental.instance_id, "usd_per_hour": rental.usd_per_hour, "offers": []}
        told = f"job {job.name} has instance {rental.instance_id} at {price}: nothing is left to be rented"
        typer.echo(json.dumps(had, indent=1) if as_json else told)
        return
    clock = SystemClock()
    provider = open_provider(job.provider, environment.home(), clock)
    shown = renting.plan(job, renting.fitting(job, provider, own), earlier, own)
    ways = renting.beside(job, provider, earlier, own)
    if as_json:
        typer.echo(json.dumps(plan_view.as_json(shown, ways), indent=1))
    else:
        plan_view.show(shown, Console(), ways=ways)
        for line in plan_view.standing(own, clock.now()):
            typer.echo(line)
        typer.echo(f"nothing was rented; harness run {file} shows this again after preflight, and asks")
