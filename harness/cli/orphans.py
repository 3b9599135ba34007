"""``harness orphans``: what bills and belongs to no job, or to one that was forgotten. It never destroys."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from harness import environment
from harness.clock import SystemClock
from harness.errors import ProviderUnavailable
from harness.ids import is_our_label
from harness.ports import Instance, Provider
from harness.text import printable
from harness.wiring import Ledger, open_ledger, open_provider_named


class Kind(StrEnum):
    """The providers whose instances can be listed."""

    VAST = "vast"
    EMULATED = "emulated"


def orphans(
    provider: Annotated[Kind, typer.Option(help="Where to look.")] = Kind.VAST,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """List every instance of the account: whose it is, what it costs, and what to do about it."""
    opened = open_provider_named(provider.value, environment.home(), SystemClock())
    with open_ledger() as ledger:
        rows = [_row(instance, ledger, opened) for instance in opened.instances().instances]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        typer.echo(
            f"{row['instance_id']}  {row['status']:<10} ${row['usd_per_hour']:.2f}/h  {row['spent']}  {row['whose']}"
        )
    if not rows:
        typer.echo("no instance is alive")


def _row(instance: Instance, ledger: Ledger, provider: Provider) -> dict[str, str | int | float]:
    return {
        "instance_id": instance.id,
        "label": printable(instance.label or "", 80),
        "status": instance.status.value,
        "usd_per_hour": instance.usd_per_hour,
        "spent": _spent(instance, provider),
        "whose": _whose(instance, ledger),
    }


def _spent(instance: Instance, provider: Provider) -> str:
    try:
        return f"${sum(charge.usd for charge in provider.charges(instance.id)):.2f} billed"
    except ProviderUnavailable:
        return "bill unknown"


def _whose(instance: Instance, ledger: Ledger) -> str:
    for name, history in ledger.histories():
        if history.rental is None or history.rental.instance_id != instance.id:
            continue
        if history.closed:
            return f"job {name} is CLOSED and this still lives: look at the provider's console"
        held = f", held: {printable(str(history.held['reason']), 120)}" if history.held else ""
        return f"job {name}, at stage {history.stage}{held}"
    if is_our_label(instance.label):
        return (
            f"ORPHAN: {printable(instance.label or '', 80)} is in no ledger here; another machine's job, or a lost one"
        )
    return "not this tool's"
