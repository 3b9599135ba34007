"""``harness status``: where jobs stand."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from harness.core.clock import SystemClock
from harness.core.errors import LogDamaged
from harness.core.money import OWN
from harness.core.text import human_seconds, printable
from harness.ledger.jobs import named
from harness.wiring import imported_jobs, open_ledger

_NAME_WIDTH = 16
_INDENT = "  "


def status(
    job: Annotated[str | None, typer.Argument(help="The job's name.", show_default="all jobs")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines: docs/status.schema.json.")] = False,
) -> None:
    """Show where jobs stand, what they cost, and which instances may be billing.

    Nobody is asked but the event log and what was recorded beside it.
    """
    now, imported = SystemClock().now(), imported_jobs()
    with open_ledger() as ledger:
        if job and named(job) in imported.jobs():
            rows = [imported.row(named(job))]
        elif job:
            ledger.require_log(named(job))
            rows = [ledger.row(named(job), now)]
        else:
            rows = [*ledger.rows(now), *map(imported.row, imported.jobs())]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        _show(rows, now)
    unreadable = [row for row in rows if "unreadable" in row]
    if unreadable:
        ways = dict.fromkeys(str(row["remedy"]) for row in unreadable)
        raise LogDamaged("; ".join(str(row["unreadable"]) for row in unreadable), remedy=" ".join(ways))


def _show(rows: Sequence[Mapping[str, Any]], now: float) -> None:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    if not rows:
        typer.echo("no job has been run yet; harness demo runs one on this machine")
    for row in rows:
        for line in lines(row, now, width):
            typer.echo(line)


def lines(row: Mapping[str, Any], now: float, width: int | None) -> Iterator[str]:
    """A job in one line, or as many as it needs in ``width`` columns; below it why it is held, and what goes on."""
    yield from _wrapped(list(_parts(row, now)), "  ", width)
    if row.get("held"):
        yield from _wrapped(f"held: {printable(row['held'], 600)}".split(), " ", width, _INDENT)
    if row.get("next") and (row.get("held") or row["alive"] is not False):
        yield f"{_INDENT}next: {row['next']}"


def _parts(row: Mapping[str, Any], now: float) -> Iterator[str]:
    yield f"{row['job']:<{_NAME_WIDTH}}"
    if "unreadable" in row:
        yield "unreadable"
        yield "its log does not read: something may be billing"
        return
    gates, money, training = row["gates"], row["money"], row["training"]
    yield f"{row['stage']} {gates['open']}/{gates['of']}"
    if training is not None:
        age = human_seconds(max(0.0, now - training["seen_at"]))
        yield f"step {training['step']}/{training['total']}, {human_seconds(training['left_s'])} left ({age} ago)"
    yield from money_words(money["spent_usd"], money["projected_usd"], money["cap_usd"], over=row["stage"] == "closed")
    told = row["bills"]["told"]
    at = row["recorded_elsewhere"]
    yield told if at is None else f"as another machine had it {human_seconds(max(0.0, now - at))} ago: {told}"


def money_words(spent: float, projected: float, cap: float | None, *, over: bool) -> Iterator[str]:
    """Money in words: what is spent; unless it is over, what it comes to, and the cap. None where nothing is billed."""
    if cap is None:
        yield OWN
        return
    yield f"${spent:.2f} spent" if over else f"${spent:.2f} spent, ${projected:.2f} at its end, cap ${cap:.2f}"


def _wrapped(parts: Sequence[str], between: str, width: int | None, indent: str = "") -> Iterator[str]:
    """The parts on one line, or on several that are indented; one is folded only where it fits on no line."""
    line = indent + parts[0]
    for part in parts[1:]:
        if width is None or len(line) + len(between) + len(part) <= width:
            line += between + part
            continue
        yield line.rstrip()
        *folded, line = textwrap.wrap(part, width, initial_indent=_INDENT, subsequent_indent=_INDENT)
        yield from folded
    yield line
