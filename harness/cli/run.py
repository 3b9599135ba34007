"""``harness run`` and ``harness demo``: drive a job to its end."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harness.cli import foot, plan_view
from harness.cli.confirming import agreeing, confirming
from harness.cli.emulator import Listed, show_scenarios
from harness.cli.job_argument import job_of
from harness.cli.options import Plain, Until, Verbose, YesToAll
from harness.cli.progress_view import open_reporter, paused
from harness.cli.report import reported, spent
from harness.cli.screens import LastingConsole
from harness.core import shipped
from harness.core.ids import JobName
from harness.core.lifecycle import Stage
from harness.emulator.scenario import load as load_scenario
from harness.job.load import load_job
from harness.job.model import Job
from harness.ledger.jobs import named
from harness.runner import renting
from harness.runner.first_look import first_look
from harness.runner.progress import ProgressReporter
from harness.runner.provision import reopen_if_old
from harness.runner.replacement import planned
from harness.runner.run import open_job, reopen_if_mended, reopen_if_spoilt
from harness.runner.run import run as run_job
from harness.wiring import OpenContext, imported_jobs, open_context, open_ledger

_NOT_A_NAME = re.compile(r"[^a-z0-9._-]+")


def run(
    file: Annotated[
        Path, typer.Argument(help="The job file (TOML), or the name of a job that has begun.", metavar="JOB")
    ],
    yes: YesToAll = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Stop before anything is rented: preflight, and the plan.")
    ] = False,
    until: Until = None,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Go on although the job file changed since the job rented.")
    ] = False,
    replace_dead: Annotated[
        bool,
        typer.Option(
            "--replace-dead-instance",
            help="Agree in advance to rent another instance, within the budget, when the job's has died.",
        ),
    ] = False,
    accept_loss: Annotated[
        str | None,
        typer.Option(help="The sentence that gives up a dead instance which still shows; the refusal names it."),
    ] = None,
    plain: Plain = False,
    verbose: Verbose = False,
) -> None:
    """Drive a job from where it stands to its end: every stage, every gate, the verified file, the release."""
    job, file = job_of(file)
    drive(
        job,
        file,
        yes=yes,
        dry_run=dry_run,
        until=until,
        accept_changes=accept_changes,
        replace_dead=replace_dead,
        accept_loss=accept_loss,
        plain=plain,
        verbose=verbose,
    )


def demo(
    scenario: Annotated[str | None, typer.Option(help="Play one of the emulator's scenarios, or a TOML file.")] = None,
    listed: Listed = False,
    until: Until = None,
    plain: Plain = False,
    verbose: Verbose = False,
) -> None:
    """Run a whole job on this machine: an embedded provider, a real training of a tiny model, real data."""
    if listed:
        show_scenarios()
        return
    file = shipped.folder("examples") / "local.toml"
    job = load_job(file)
    name = f"{job.name}-{_NOT_A_NAME.sub('-', Path(scenario).stem.lower())}" if scenario else str(job.name)
    changes: dict[str, object] = {"provider": job.provider.model_copy(update={"scenario": scenario})}
    with open_ledger() as ledger:
        job = job.model_copy(
            update={**changes, "name": _unfinished(name, ledger.closed().union(imported_jobs().jobs()))}
        )
    drive(job, file, yes=True, brief=True, until=until, accept_changes=True, plain=plain, verbose=verbose)


def drive(
    job: Job,
    file: Path,
    *,
    yes: bool,
    brief: bool = False,
    dry_run: bool = False,
    until: Stage | None,
    accept_changes: bool,
    replace_dead: bool = False,
    accept_loss: str | None = None,
    plain: bool,
    verbose: bool,
) -> None:
    """Run a job under its lock and report its progress; whatever happens, leave the report."""
    load_scenario(job.provider.own.get("scenario"))  # one that cannot be read is said before the first stage
    console = LastingConsole()
    with open_ledger() as ledger:
        ledger.require_log(job.name)
        lost = ledger.lost()
    with open_context(job.name, new=True) as context, context.store.lock(job.name):
        open_job(context.store, job, file.resolve(), accept_changes=accept_changes)
        reporting = open_reporter(
            console,
            plain,
            verbose=verbose,
            spent=lambda: spent(context),
            footing=lambda: foot.of(context.history, spent(context)),
        )
        agreed = yes or job.teardown.confirm == "yes"
        with reported(context, console, agreed=agreed), reporting as reporter:
            context.show = reporter.meter
            for error in lost.values():
                reporter.note(f"{error}; harness status says more")
            if context.history.closed:
                reporter.note(f"job {context.name} is closed: its file is verified, its instance destroyed")
                return
            if dry_run:
                _rehearse(context, console, reporter)
                return
            reopen_if_mended(context, reporter)
            reopen_if_spoilt(context, reporter)
            run_job(
                context,
                reporter,
                confirming(context, console, reporter, yes=yes),
                until=until,
                agreement=agreeing(
                    context, console, reporter, in_advance=replace_dead, loss=accept_loss, yes=yes, brief=brief
                ),
                first_look=partial(first_look, holds=until is not Stage.PREFLIGHT),
            )


def _rehearse(context: OpenContext, console: Console, reporter: ProgressReporter) -> None:
    """Preflight, and the plan; a job that has rented, or may have, is left as it is."""
    history = context.history
    if history.rental is not None or history.in_doubt:
        reporter.note(plan_view.nothing_left(history))
        return
    reopen_if_mended(context, reporter)
    reopen_if_old(context, reporter)
    run_job(context, reporter, lambda _id, _file: None, until=Stage.PREFLIGHT)
    offers = renting.fitting(context.job, context.provider(), context.history)
    shown = planned(context, offers)
    with paused(reporter):
        plan_view.show(shown, console)
    for line in plan_view.standing(context.history, context.clock.now()):
        reporter.note(line)
    reporter.note("nothing was rented: the same command without --dry-run goes on from here")


def _unfinished(name: str, closed: frozenset[JobName]) -> JobName:
    """The job to go on with, or the next name when all of that name are closed, or another machine's."""
    number = 1
    while (candidate := named(name[:60] if number == 1 else f"{name[:60]}-{number}")) in closed:
        number += 1
    return candidate
