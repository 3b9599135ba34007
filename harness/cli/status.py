"""``harness status``: where jobs stand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from harness.core.errors import LogDamaged
from harness.ledger.jobs import named
from harness.wiring import open_ledger


def status(
    job: Annotated[str | None, typer.Argument(help="The job's name.", show_default="all jobs")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show where jobs stand, and which instances may be billing."""
    with open_ledger() as ledger:
        if job:
            ledger.require_log(named(job))
        rows = [ledger.row(named(job))] if job else ledger.rows()
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        _show(rows)
    unreadable = [row for row in rows if "unreadable" in row]
    if unreadable:
        ways = dict.fromkeys(str(row["remedy"]) for row in unreadable)
        raise LogDamaged("; ".join(str(row["unreadable"]) for row in unreadable), remedy=" ".join(ways))


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        typer.echo("no job has been run yet; harness demo runs one on this machine")
    for row in rows:
        billing = "nothing billing"
        if row.get("unresolved"):
            billing = f"a rent without an outcome: something may be billing; harness run {row['job']} finds it"
        elif "unreadable" in row:
            billing = "its log does not read: something may be billing"
        elif row["alive"] is None:
            billing = "something that its log does not account for may be billing"
        elif row["alive"]:
            billing = f"instance {row['instance_id']} at ${row['usd_per_hour']:.2f}/h"
        typer.echo(f"{row['job']:<24} {row['stage']:<14} {billing}")
        if row.get("held"):
            typer.echo(f"{'':<24} held: {row['held']}")
