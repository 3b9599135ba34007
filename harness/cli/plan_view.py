"""The plan of a rental as lines for a person, as wide as the terminal, and as JSON."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console

from harness.cli.screens import say
from harness.core.canonical import Json
from harness.core.money import OWN, as_paid
from harness.core.ports import Offer
from harness.core.text import human_seconds, printable
from harness.job import layouts, strategy
from harness.job.forecast import STEPS, Forecast, Part
from harness.job.model import Job
from harness.ledger.history import History
from harness.ledger.predicted import IN_ALL
from harness.providers import registry
from harness.runner import renting
from harness.runner.renting import Beside, RentPlan

_HEAD = ("price/h", "GPUs", "place", "reliable", "Mb/s down/up", "CUDA", "disk", "$/GB in/out", "to the end")
_LEFT = frozenset({"GPUs", "place"})
_MINUTE_S = 60.0
_MINUTES = 60
_LEAST_S, _LEAST_USD = 0.5, 0.005
"""A part of less is no line: it would be told as nothing."""
_LONGEST = 1000
_NO_TERMINAL = 120
"""Width of what goes to a file or another program."""


def show(plan: RentPlan, console: Console, *, brief: bool = False, ways: Sequence[Beside] = ()) -> None:
    """Print the whole plan and the ways beside it; ``brief``: in one line."""
    for line in told(plan, console, brief=brief, ways=ways):
        say(console, line)


def told(plan: RentPlan, console: Console, *, brief: bool = False, ways: Sequence[Beside] = ()) -> tuple[str, ...]:
    """The lines that a console shows of the plan: no wider."""
    wide = console.width if console.is_terminal else max(console.width, _NO_TERMINAL)
    shown = (in_short(plan),) if brief else (*lines(plan, wide), *beside(ways, plan.job, wide))
    return tuple(printable(line, _LONGEST) for line in shown)


def lines(plan: RentPlan, width: int) -> Iterator[str]:
    """The whole plan: the offers, time and money by part, the cap and what happens there."""
    if plan.meaning:
        yield from _wrapped(plan.meaning, width)
    yield from _wrapped(demanded(plan.job), width)
    yield from _wrapped(strategy.planned(plan.job), width)
    if plan.offers and not plan.job.is_billed:
        offer = plan.offers[0]
        yield f"it is free: {offer.num_gpus}x {offer.gpu_name}, {offer.disk_gb:,.0f} GB of disk free; {OWN}"
        yield from _parts(plan.forecasts[0], priced=False)
        return
    if not plan.offers:
        yield "no offer fits now; the next plan is shown once the dead instance is gone"
        return
    yield f"{len(plan.offers)} cheapest offers that fit:" if len(plan.offers) > 1 else "the one offer that fits:"
    rows = [_row(offer, forecast) for offer, forecast in zip(plan.offers, plan.forecasts, strict=True)]
    table = list(_table([_HEAD, *rows], [name in _LEFT for name in _HEAD]))
    if max(map(len, table)) <= width:
        yield from table
    else:
        yield from (line for row in rows for line in _card(row, width))
    best, offer = plan.forecasts[0], plan.offers[0]
    yield f"on the first of them, {price(plan.job, offer.usd_per_hour)}:"
    yield from _parts(best)
    yield from _wrapped(off(plan.errors), width)
    yield from _wrapped(_cap(plan), width)


def beside(ways: Sequence[Beside], asked: Job, width: int) -> Iterator[str]:
    """The ways to train a job and the offer of each, the cheapest to the end first; nothing where there is but one."""
    if len(ways) < 2:
        return
    yield from _wrapped("ways to train it, the cheapest first (* as the job file says):", width)
    rows = [
        (
            f"{layouts.layout(one.job, one.offer.gpu_name)}{' *' * (one.job is asked)}",
            duration(_steps(one).seconds),
            duration(one.forecast.seconds),
            f"${one.forecast.usd:.2f}",
        )
        for one in ways
    ]
    head, *table = _table([("strategy", "steps", "in all", "cost"), *rows], (True, *[False] * 3))
    yield head
    for line, one in zip(table, ways, strict=True):
        yield line
        yield from _wrapped(f"${one.offer.usd_per_hour:.2f}/h; steps: {_steps(one).source}", width, "    ")
    for each in dict.fromkeys(layouts.of(one.job) for one in ways):
        yield from _wrapped(f"risk of {each.name}: {each.risk}", width, "  ")


def _steps(one: Beside) -> Part:
    return next(part for part in one.forecast.parts if part.name == STEPS)


def off(errors: Mapping[str, tuple[float, int]]) -> str:
    """How far earlier forecasts of jobs like this one were off, in the middle; empty where none was compared yet."""
    if IN_ALL not in errors:
        return ""
    error, jobs = errors[IN_ALL]
    parts = ", ".join(f"{name} {each:.0%}" for name, (each, _) in errors.items() if name != IN_ALL)
    return f"such forecasts were off by {error:.0%} in all ({jobs} job{'s' * (jobs > 1)}, the middle one): {parts}"


def in_short(plan: RentPlan) -> str:
    """The plan in one line."""
    if not plan.offers:
        return plan.meaning
    best, offer = plan.forecasts[0], plan.offers[0]
    place = f" in {offer.place}" if offer.place else ""
    if not plan.job.is_billed:
        return f"the plan: {offer.num_gpus}x {offer.gpu_name}, {OWN}; about {duration(best.seconds)} in all"
    return (
        f"the plan: {offer.num_gpus}x {offer.gpu_name}{place}, {price(plan.job, offer.usd_per_hour)}; "
        f"about {duration(best.seconds)} and ${best.usd:.2f} in all, at most ${plan.job.limits.budget_usd:.2f}"
    )


def nothing_left(history: History) -> str:
    """The line about a job that has rented, or may have."""
    had = f"instance {history.rental.instance_id}" if history.rental is not None else "what may be an instance"
    return f"job {history.job.name} has rented {had} already: nothing is left to be agreed to"


def standing(history: History | None, now: float) -> Iterator[str]:
    """A line about the agreement that a run would rent by without asking, where there is one."""
    agreed = renting.standing(history, now) if history is not None else None
    if history is not None and agreed is not None and history.agreed_at is not None:
        numbers = ", ".join(str(one.get("id")) for one in agreed.offers)
        yield (
            f"a rental was agreed to {human_seconds(max(0.0, now - history.agreed_at))} ago ({agreed.how}), and that "
            f"stands: without asking again, harness run {history.job.name} rents the first of the offers {numbers} "
            "that still shows at no higher price"
        )


def demanded(job: Job) -> str:
    """The machine that the job file asks for."""
    machine = job.machine
    if not job.is_billed:
        return (
            f"job {job.name} claims a machine of your own ({job.provider.kind}): {machine.gpus}x {machine.gpu} with "
            f"{machine.disk_gb:g} GB of free disk; what runs there beside it is yours to know"
        )
    return (
        f"job {job.name} rents at {job.provider.kind}: {machine.gpus}x {machine.gpu} with {machine.disk_gb:g} GB of "
        f"disk, reliability {machine.min_reliability:.1%} or more, CUDA {machine.min_cuda:g} or newer, "
        f"{machine.min_inet_down_mbps:g} Mb/s down or more, for at most ${machine.max_usd_per_hour:.2f}/h and "
        f"${machine.max_usd_per_gb:.3f} a GB of traffic"
    )


def price(job: Job, usd_per_hour: float) -> str:
    """A price by the hour, embedded money called so."""
    embedded = registry.is_embedded(job.provider.kind)
    return as_paid(f"${usd_per_hour:.2f}/h", embedded=embedded, own=not job.is_billed)


def duration(seconds: float) -> str:
    """A time that is only foreseen: no more exact than that."""
    whole = round(seconds / _MINUTE_S)
    if seconds < 2 * _MINUTE_S:
        return f"{seconds:.0f} s"
    return f"{whole} min" if whole < 2 * _MINUTES else f"{whole // _MINUTES} h {whole % _MINUTES:02d} min"


def as_json(plan: RentPlan, ways: Sequence[Beside] = ()) -> dict[str, Json]:
    """The plan for machines: seconds, USD, bytes a GB of a thousand million; errors are shares of what was taken."""
    job, best = plan.job, plan.forecasts[0]
    told: dict[str, Json] = {
        "job": job.name,
        "provider": job.provider.kind,
        "embedded": registry.is_embedded(job.provider.kind),
        "machine": job.machine.model_dump(mode="json"),
        "offers": [
            {**dataclasses.asdict(offer), "seconds": forecast.seconds, "usd": forecast.usd}
            for offer, forecast in zip(plan.offers, plan.forecasts, strict=True)
        ],
        "parts": [dataclasses.asdict(part) for part in best.parts],
        "seconds": best.seconds,
        "usd": best.usd,
        "budget_usd": job.limits.budget_usd,
        "max_usd_per_hour": job.machine.max_usd_per_hour,
        "errors": {name: {"share": error, "jobs": jobs} for name, (error, jobs) in plan.errors.items()},
        "strategies": [
            {
                "strategy": layouts.of(one.job).name,
                "risk": layouts.of(one.job).risk,
                "machine": one.job.machine.model_dump(mode="json"),
                "offer": dataclasses.asdict(one.offer),
                "parts": [dataclasses.asdict(part) for part in one.forecast.parts],
                "seconds": one.forecast.seconds,
                "usd": one.forecast.usd,
            }
            for one in ways
        ],
    }
    return told


def _row(offer: Offer, forecast: Forecast) -> tuple[str, ...]:
    return (
        f"${offer.usd_per_hour:.2f}",
        f"{offer.num_gpus}x {offer.gpu_name}",
        offer.place or "not told",
        f"{offer.reliability:.1%}" if offer.reliability else "?",
        f"{offer.inet_down_mbps:,.0f}/{offer.inet_up_mbps:,.0f}" if offer.inet_down_mbps else "?",
        f"{offer.cuda_max:g}",
        f"{offer.disk_gb:,.0f} GB",
        f"{offer.usd_per_gb_down:.3f}/{offer.usd_per_gb_up:.3f}",
        f"${forecast.usd:.2f}",
    )


def _table(rows: Sequence[Sequence[str]], left: Sequence[bool]) -> Iterator[str]:
    """Rows in columns; text to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(row, widths, left, strict=True)
        ]
        yield "  " + "  ".join(cells).rstrip()


def _card(row: Sequence[str], width: int) -> Iterator[str]:
    """An offer where its line has no room."""
    told = dict(zip(_HEAD, row, strict=True))
    yield f"  {told['price/h']}/h  {told['GPUs']}  {told['place']}  {told['to the end']} to the end"
    rest = f"{told['reliable']} reliable, {told['Mb/s down/up']} Mb/s, CUDA {told['CUDA']}, {told['disk']}"
    yield from _wrapped(f"{rest}, ${told['$/GB in/out']} a GB", width, "    ")


def _parts(forecast: Forecast, *, priced: bool = True) -> Iterator[str]:
    rows = [
        (part.name, duration(part.seconds) if part.seconds else "", f"${part.usd:.2f}", part.source)
        for part in forecast.parts
        if part.seconds >= _LEAST_S or part.usd >= _LEAST_USD
    ]
    rows.append(("total", duration(forecast.seconds), f"${forecast.usd:.2f}", ""))
    shown = [row if priced else (row[0], row[1], "", row[3]) for row in rows]
    yield from _table(shown, (True, False, False, True))


def _cap(plan: RentPlan) -> str:
    """The cap, and what happens there."""
    job, disk = plan.job, plan.offers[0].disk_usd_per_hour
    bills = "bills on" if disk is None else f"bills on at ${disk:.4f}/h"
    over = " The forecast is above the cap." if plan.forecasts[0].usd > job.limits.budget_usd else ""
    return (
        f"cap: ${job.limits.budget_usd:.2f} (limits.budget_usd), ${job.machine.max_usd_per_hour:.2f}/h "
        f"(machine.max_usd_per_hour).{over} At the cap the instance is stopped; its disk is kept, with everything on "
        f"it, and {bills} until it is destroyed."
    )


def _wrapped(text: str, width: int, indent: str = "") -> Iterator[str]:
    yield from textwrap.wrap(
        " ".join(text.split()), max(30, width), initial_indent=indent, subsequent_indent=indent or "  "
    )
