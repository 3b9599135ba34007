"""``harness fleet``: many jobs at once, by any number of workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import status as job_status
from harness.cli.screens import LastingConsole, say
from harness.core import environment
from harness.core.clock import SystemClock
from harness.core.errors import HarnessError
from harness.core.text import printable
from harness.fleet.engine import FleetState, JobPlace, open_engine
from harness.fleet.file import load_fleet
from harness.fleet.worker import Worker
from harness.wiring import open_ledger

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Drive many jobs at once, by workers on one machine or several: run, status, pause, drain, resume.",
)
FleetFile = Annotated[Path, typer.Argument(help="The fleet file (TOML).", metavar="FLEET")]


@app.command()
def run(
    file: FleetFile,
    stay: Annotated[bool, typer.Option("--stay", help="Wait for more when no job is left to drive.")] = False,
) -> None:
    """Be a worker: drive the fleet's jobs until each has ended or is held. Run it on as many machines as you like."""
    fleet, home, console = load_fleet(file), environment.home(), LastingConsole()
    with open_engine(fleet, home, patient=True) as engine, open_ledger(home) as ledger:
        worker = Worker(file.resolve(), home, engine, ledger.store, SystemClock(), lambda told: say(console, told))
        say(console, f"fleet {fleet.name}: {len(fleet.jobs)} jobs, this is {worker.name}; Ctrl-C puts its jobs back")
        known = worker.work(stay=stay)
    held = {name: one.why for name, one in known.items() if one.place is JobPlace.HELD}
    if held:
        raise HarnessError(
            f"fleet {fleet.name}: {len(held)} of {len(known)} jobs are held: "
            + "; ".join(f"{name} ({printable(why, 200)})" for name, why in held.items()),
            remedy="Do what each says; harness fleet resume FLEET JOB then has it taken up where it stands.",
        )


@app.command()
def status(file: FleetFile, as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False) -> None:
    """Show the fleet and each job's place in it, with where the job stands and what it costs."""
    fleet, home, now = load_fleet(file), environment.home(), SystemClock().now()
    with open_engine(fleet, home) as engine, open_ledger(home) as ledger:
        standing, known = engine.standing() or FleetState.RUNNING, engine.standpoints()
        begun = ledger.store.jobs()
        rows = {name: ledger.row(name, now) if name in begun else None for name in known}
    if as_json:
        jobs = [
            {"job": name, "place": one.place, "worker": one.worker or None, "why": one.why or None, "row": rows[name]}
            for name, one in known.items()
        ]
        typer.echo(json.dumps({"fleet": fleet.name, "standing": standing, "jobs": jobs}, indent=1))
        return
    counts = [f"{sum(one.place is place for one in known.values())} {place}" for place in JobPlace]
    typer.echo(f"fleet {fleet.name}: {standing}, at most {fleet.concurrency} at once; {', '.join(counts)}")
    for name, one in known.items():
        more = f" by {one.worker}" if one.worker else f": {one.why}" if one.why else ""
        typer.echo(f"{name} {one.place}{more}")
        row = rows[name]
        for line in job_status.lines(row, now, None) if row is not None else ():
            typer.echo(f"  {line}")


@app.command()
def pause(file: FleetFile) -> None:
    """Begin no job any more; those that are being driven go on to their ends."""
    _stand(file, FleetState.PAUSED, "no job begins any more; what is driven goes on; harness fleet resume ends that")


@app.command()
def drain(file: FleetFile) -> None:
    """As pause, and every worker ends when it drives nothing any more."""
    _stand(file, FleetState.DRAINING, "no job begins any more, and each worker ends with the jobs that it drives")


@app.command()
def resume(
    file: FleetFile,
    jobs: Annotated[
        list[str] | None, typer.Argument(help="Held jobs to be taken up.", metavar="[JOB]...", show_default=False)
    ] = None,
) -> None:
    """Let jobs begin again; or, where jobs are named, have these taken up where they were held."""
    if not jobs:
        _stand(file, FleetState.RUNNING, "jobs begin again, within the limits of the file")
        return
    with open_engine(load_fleet(file), environment.home()) as engine:
        engine.take_up(jobs)
    typer.echo(f"{', '.join(jobs)}: the next worker that is free goes on from the stage that held it")


def _stand(file: Path, standing: FleetState, told: str) -> None:
    fleet = load_fleet(file)
    with open_engine(fleet, environment.home()) as engine:
        engine.stand(standing)
    typer.echo(f"fleet {fleet.name}: {told}")
