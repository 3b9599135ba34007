"""``harness lessons``: what the libraries that are installed do with each configuration that once lost money."""

from __future__ import annotations

import importlib.util
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from harness.core import durable
from harness.core.clock import SystemClock
from harness.core.errors import BadInput, MissingExtra
from harness.lessons import trying, verdicts
from harness.lessons.table import named
from harness.lessons.verdicts import Tried
from harness.wiring import open_context


def lessons(
    names: Annotated[list[str] | None, typer.Argument(help="Lessons by name; all, unless some are named.")] = None,
    job: Annotated[str | None, typer.Option("--job", help="Try them on this job's box, before its training.")] = None,
    latest: Annotated[bool, typer.Option("--latest", help="Try nothing: the verdicts that are recorded.")] = False,
    write: Annotated[
        Path | None, typer.Option("--write", help="Write them to this file: .json for the package, .md to be read.")
    ] = None,
) -> None:
    """Try each configuration that once lost money, on a tiny model, and say what it does with these versions.

    Takes minutes here; each experiment has a process group, a folder and a time limit of its own. A job's box is
    tried before its training, whose GPUs they would share.
    """
    wanted = named(names or [])
    if latest:
        tried = verdicts.latest()
        if tried is None:
            raise BadInput("no verdicts are recorded", remedy="harness lessons --write training_pkg/lessons.json")
    else:
        tried = _on_box(wanted, job) if job else _here(wanted)
    text = verdicts.as_markdown(tried)
    if write is None:
        typer.echo(text, nl=False)
        return
    data = verdicts.to_json(tried) if write.suffix == ".json" else verdicts.page(tried).encode()
    durable.write(write, data)
    typer.echo(f"{write}: {len(tried.verdicts)} lessons")


def _here(wanted: list[str]) -> Tried:
    if sys.platform == "win32":
        raise BadInput("the experiments fork, which Windows cannot", remedy="Try them on a box: harness lessons --job")
    if any(importlib.util.find_spec(name) is None for name in ("torch", "transformers", "trl", "peft", "datasets")):
        raise MissingExtra("harness lessons", "training")
    return trying.attempt(wanted, trying.here, day=_day())


def _on_box(wanted: list[str], job: str) -> Tried:
    with open_context(job, only_looks=True) as context:
        if context.history.alive is None:
            raise BadInput(f"{job} has no box", remedy="harness lessons tries them here; --job NAME where a box runs")
        if context.history.launched_at is not None:
            raise BadInput(f"{job} trains, or has trained: the lessons would share its GPUs")
        host = context.fresh_host()
        try:
            return trying.attempt(wanted, trying.on(host), day=_day(), place=f"the box of {job},")
        finally:
            host.close()


def _day() -> str:
    return datetime.fromtimestamp(SystemClock().now(), UTC).date().isoformat()
