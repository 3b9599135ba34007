"""``harness log``: the job's own event log; ``harness logs`` is the training's."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from harness.cli.screens import say
from harness.core.errors import LogDamaged
from harness.core.text import one_line
from harness.ledger.chain import Record
from harness.wiring import open_context

_WIDTH = 160


def log(
    job: Annotated[str | None, typer.Argument(help="The job's name.", show_default="the one that moved last")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every event whole, one JSON object a line.")] = False,
) -> None:
    """Show the job's events and verify their chain; the training's log is harness logs.

    Each event names the digest of the one before: one that was changed, left out or put in between is told, with exit
    code 10.
    """
    console = Console()
    with open_context(job, only_looks=True, new=True) as context:
        if wrong := context.store.verify(context.name):
            for problem in wrong:
                say(console, one_line(problem, _WIDTH))
            raise LogDamaged(f"the log of job {context.name} is damaged: {one_line(wrong[0], _WIDTH)}")
        records = context.history.records
    for record in records:
        typer.echo(json.dumps(asdict(record))) if as_json else say(console, _line(record))
    if not as_json:
        say(console, f"{len(records)} events, and the chain is whole: the last one's SHA-256 is {records[-1].digest}")


def _line(record: Record) -> str:
    at = datetime.fromtimestamp(record.at, UTC)
    told = one_line(json.dumps(record.data, ensure_ascii=False, sort_keys=True), _WIDTH)
    return f"{record.seq:>5}  {at:%Y-%m-%d %H:%M:%SZ}  {record.kind:<18} {told}"
