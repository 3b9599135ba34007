"""``harness orphans``: what bills, whose it is, and what no job answers for. It never destroys."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer

from harness.core import environment
from harness.core.clock import SystemClock
from harness.core.errors import LogDamaged, ProviderUnavailable
from harness.core.ids import plain
from harness.core.observed import Observed
from harness.core.ports import Bill, Instance, Provider, Volume
from harness.core.text import printable
from harness.facts.reading import attempt
from harness.job.provider import ProviderTable
from harness.ledger.jobs import Ledger
from harness.ledger.ownership import Known, Standing, Whose
from harness.providers import registry
from harness.wiring import open_ledger, open_provider


@dataclass(frozen=True, slots=True)
class BillingRow:
    """One thing that bills or has billed. Money in USD; None where the provider could not be asked or does not tell."""

    id: int | str
    label: str
    status: str
    usd_per_hour: float | None
    usd: float | None
    standing: Standing
    whose: str

    def shown(self, columns: int) -> str:
        """The row in one line; where that is wider than the terminal, in two."""
        price = "" if self.usd_per_hour is None else f"${self.usd_per_hour:.4g}/h"
        billed = "bill unknown" if self.usd is None else f"${self.usd:.2f} billed"
        told = f"  {self.id}  {self.status:<12} {price:<10} {billed:<14}"
        line = f"{told}  {self.whose}".rstrip()
        return line if len(line) < columns else f"{told.rstrip()}\n    {self.whose}"


def orphans(
    job: Annotated[
        str | None, typer.Argument(help="A job: its provider is looked at, with its account.", show_default=False)
    ] = None,
    provider: Annotated[
        str, typer.Option(help="Where to look: a kind of provider, as in a job file.", autocompletion=registry.kinds)
    ] = registry.DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """List every instance, volume and charge of the account: whose it is, what it costs, what to do about it."""
    with open_ledger() as ledger:
        table = ProviderTable(kind=provider) if job is None else _place(ledger, job)
        known = ledger.known(table)
    opened = open_provider(table, environment.home(), SystemClock())
    found = survey(opened, known)
    unasked = {name: rows.problem for name, rows in found.items() if rows.problem is not None}
    unread = f"the log of job {', '.join(known.unreadable)} does not read: what it has had is not known"
    unknown = unasked | ({"jobs": unread} if known.unreadable else {})
    if as_json:
        told = {
            name: None if rows.value is None else [asdict(row) for row in rows.value] for name, rows in found.items()
        }
        typer.echo(json.dumps({**told, "unknown": unknown}, indent=1))
    else:
        for name, rows in found.items():
            _show(name, rows)
    if unasked:
        raise ProviderUnavailable("not everything could be looked at: " + "; ".join(dict.fromkeys(unknown.values())))
    if known.unreadable:
        raise LogDamaged(unread)


def _place(ledger: Ledger, job: str) -> ProviderTable:
    begun = ledger.begun(job)
    if begun is None:
        raise ledger.no_job(job)
    return begun[0].provider


def survey(provider: Provider, known: Known) -> Mapping[str, Observed[tuple[BillingRow, ...]]]:
    """Holdings of the provider's account by kind: ``instances``, ``volumes``, and the ``costs`` of what is neither."""
    instances = attempt(lambda: provider.instances().instances)
    volumes = attempt(provider.volumes)
    bills = attempt(provider.bills)
    return {
        "instances": attempt(lambda: _instances(instances.get(), known, bills)),
        "volumes": attempt(lambda: tuple(_volume(one, known, bills) for one in volumes.get())),
        "costs": attempt(lambda: _costs(bills.get(), instances.get(), volumes.get(), known)),
    }


def _show(name: str, rows: Observed[tuple[BillingRow, ...]]) -> None:
    typer.echo(f"{name}, gone and not accounted for" if name == "costs" else name)
    if rows.value is None:
        typer.echo(f"  UNKNOWN: {printable(rows.problem or '', 300)}")
        return
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    for row in rows.value:
        typer.echo(row.shown(columns))
    if not rows.value:
        typer.echo("  none")


def _instances(listed: Sequence[Instance], known: Known, bills: Observed[tuple[Bill, ...]]) -> tuple[BillingRow, ...]:
    """Every listed instance, and every one that a job believes to be alive and that is not listed."""
    rows = [
        _row(plain(one.id), one.label, one.status.value, one.usd_per_hour, _billed("instance", one.id, bills), whose)
        for one in listed
        for whose in [known.of_instance(one)]
    ]
    for claim in known.missing(listed):
        whose = Whose(Standing.FORGOTTEN, f"job {claim.job}, {claim.now}: alive in its log, and not in the list")
        usd = _billed("instance", claim.instance_id, bills)
        rows.append(_row(claim.instance_id, None, "not listed", None, usd, whose))
    return tuple(rows)


def _volume(volume: Volume, known: Known, bills: Observed[tuple[Bill, ...]]) -> BillingRow:
    usd = _billed("volume", volume.id, bills)
    return _row(volume.id, volume.label, f"{volume.size_gb:g} GB", volume.usd_per_hour, usd, known.of_volume(volume))


def _costs(
    bills: Sequence[Bill], instances: Sequence[Instance], volumes: Sequence[Volume], known: Known
) -> tuple[BillingRow, ...]:
    """Charges of what is in neither list, but those that a job has accounted for."""
    listed = {("instance", one.id) for one in instances} | {("volume", one.id) for one in volumes}
    rows = []
    for bill in bills:
        whose = known.of_bill(bill)
        if (bill.kind, bill.id) not in listed and whose.standing is not Standing.OWNED:
            until = datetime.fromtimestamp(bill.until, UTC).strftime("until %Y-%m-%d %H:%M UTC")
            told = Whose(whose.standing, f"{until}; {whose.told}")
            rows.append(_row(bill.id, bill.label, printable(bill.kind, 20), None, bill.usd, told))
    return tuple(rows)


def _row(
    number: object, label: str | None, status: str, usd_per_hour: float | None, usd: float | None, whose: Whose
) -> BillingRow:
    return BillingRow(plain(number), printable(label or "", 80), status, usd_per_hour, usd, whose.standing, whose.told)


def _billed(kind: str, number: object, bills: Observed[tuple[Bill, ...]]) -> float | None:
    """Bill of a contract (USD); None when it is not known."""
    if bills.value is None:
        return None
    return sum(bill.usd for bill in bills.value if (bill.kind, bill.id) == (kind, number))
