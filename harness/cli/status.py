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
        names = (named(job),) if job else ledger.store.jobs()
        rows = [ledger.row(name) for name in names]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        _show(rows)
    unreadable = [str(row["unreadable"]) for row in rows if "unreadable" in row]
    if unreadable:
        raise LogDamaged("; ".join(unreadable))


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        typer.echo("no job has been run yet; harness demo runs one on this machine")
    for row in rows:
        billing = "nothing billing"
        if row["alive"] is None:
            billing = "its log does not read: something may be billing"
        elif row["alive"]:
            billing = f"instance {row['instance_id']} at ${row['usd_per_hour']:.2f}/h"
        typer.echo(f"{row['job']:<24} {row['stage']:<14} {billing}")
        if row.get("held"):
            typer.echo(f"{'':<24} held: {row['held']}")
