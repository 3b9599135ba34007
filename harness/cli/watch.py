"""``harness watch``: remembers what bills and was forgotten, and stops what is over ``limits.toml``; no more."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import telling
from harness.cli.enforcing import Watched, enforce
from harness.cli.orphans import survey
from harness.cli.screens import LastingConsole, say
from harness.core import durable, environment
from harness.core.clock import SystemClock
from harness.core.errors import BadInput, HarnessError, ProviderUnavailable, StillBilling
from harness.core.ids import JobName
from harness.core.ports import Clock
from harness.core.text import printable, rfc3339
from harness.job.provider import ProviderTable
from harness.ledger import ownership
from harness.ledger.bills import bills
from harness.ledger.history import History
from harness.ledger.jobs import Ledger
from harness.ledger.limits import FILE, AccountLimits
from harness.ledger.limits import load as load_limits
from harness.ledger.locks import sole
from harness.ledger.ownership import STRAY
from harness.notify import targets
from harness.notify.forgotten import Forgotten, of_job
from harness.notify.targets import Notice, Occasion
from harness.providers import registry
from harness.wiring import open_ledger, open_provider

_HOUR_S = 3600.0
_MINUTE_S = 60.0
_BLIND_LOOKS = 3
"""Looks in a row that did not see everything, from which on people are told: an outage of minutes is none of theirs."""
_BLIND, _LOOKS, _LIMITED, _GONE = "blind", "blind looks", "limited", "limits gone"
"""Keys of the memory: when the blind watch was told, how many such looks came in a row, limits seen last and missed."""


@dataclass(frozen=True, slots=True)
class Round:
    """One look at all jobs: what is to be remembered, what could not be looked at, and who is told.

    ``failed``: the error that kept it from looking at anything, or from enforcing the limits; ``limited``: it has any.
    """

    forgotten: tuple[Forgotten, ...]
    unseen: tuple[str, ...]
    urls: tuple[str, ...]
    failed: HarnessError | None = None
    limited: bool = False


def watch(
    every: Annotated[float, typer.Option(help="Minutes between two looks.", min=1, max=10_080)] = 10,
    after: Annotated[float, typer.Option(help="Hours after which a stopped instance is remembered.", min=0)] = 2,
    again: Annotated[float, typer.Option(help="Hours after which the same is told again.", min=0)] = 12,
    once: Annotated[
        bool, typer.Option("--once", help="Look once and end: 0 nothing is forgotten, 12 something is.")
    ] = False,
    test: Annotated[bool, typer.Option("--test", help="Only send a test to every target of HARNESS_NOTIFY.")] = False,
) -> None:
    """Remember what bills and was forgotten, by a line and a notification; stop only what is over limits.toml."""
    home, clock = environment.home(), SystemClock()
    targets.require_usable(environment.notify_urls())
    if test:
        _test()
        return
    memory = home / "watch.json"
    with sole(home, "watch", "the jobs of this home are being watched", clock):
        if once:
            seen = look(clock, after * _HOUR_S)
            told = _notify(seen, memory, clock.now(), again * _HOUR_S)
            for line in dict.fromkeys([*(one.told for one in seen.forgotten), *told]):
                typer.echo(line)
            _end(seen)
            return
        console = LastingConsole()
        say(console, f"watching all jobs of {home}, every {every:g} minutes; Ctrl-C ends it, and changes nothing")
        while True:
            seen = look(clock, after * _HOUR_S)
            for line in (*_notify(seen, memory, clock.now(), again * _HOUR_S), *seen.unseen):
                say(console, f"{rfc3339(clock.now())} {line}")
            clock.sleep(every * _MINUTE_S)


def look(clock: Clock, after_s: float) -> Round:
    """One look: the logs of all jobs, beside the lists of every provider at which one of them has rented."""
    try:
        return _look(clock, after_s)
    except HarnessError as error:
        return Round((), (f"this look failed: {printable(str(error), 500)}",), environment.notify_urls(), error)


def _look(clock: Clock, after_s: float) -> Round:
    with open_ledger() as ledger:
        histories, unreadable = ledger.read()
        unseen = [str(error) for error in (*unreadable.values(), *ledger.lost().values())]
        forgotten: list[Forgotten] = []
        watched: dict[object, Watched] = {}
        """Every provider that gave its complete list."""
        limits, failed = None, None
        try:
            limits = load_limits(environment.home())
        except BadInput as error:  # nothing is enforced, and what was forgotten is told all the same
            failed = error
            unseen.append(str(error))
        for place, table in _places(histories, limits.providers if limits is not None else ()).items():
            known = ownership.known(histories.values(), table, unreadable, ledger.throwaways())
            try:
                provider = open_provider(table, environment.home(), clock)
                watched[place] = Watched(
                    registry.is_embedded(table.kind), provider, known, provider.instances().instances
                )
            except HarnessError as error:
                unseen.append(f"provider {table.kind} could not be looked at: {error}")
                continue
            for kind, rows in survey(provider, known).items():
                if rows.problem is not None:
                    unseen.append(f"{kind} at provider {table.kind} could not be looked at: {rows.problem}")
                stray = [row for row in rows.value or () if row.standing in STRAY]
                forgotten += [Forgotten(f"{kind} {row.id}", f"{kind}: {' '.join(str(row).split())}") for row in stray]
        if limits is not None:
            told, blind = _enforced(ledger, histories, watched, limits, clock)
            forgotten += told
            unseen += blind
        shown = {place: {one.id: one for one in seen.instances} for place, seen in watched.items()}
        for name, history in histories.items():
            rental, listing = history.alive, shown.get(ownership.place(history.job.provider))
            its = listing.get(rental.instance_id) if listing is not None and rental is not None else None
            working, now = ledger.store.holder(name) is not None, clock.now()
            forgotten += of_job(history, its, now, listed=listing is not None, worked_on=working, after_s=after_s)
        billing = [history for history in histories.values() if bills(history).may_bill]
        urls = [*environment.notify_urls(), *(url for history in billing for url in telling.of(history))]
    blind_to = tuple(printable(one, 500) for one in unseen)
    return Round(tuple(forgotten), blind_to, tuple(dict.fromkeys(urls)), failed, limited=limits is not None)


def _enforced(
    ledger: Ledger,
    histories: Mapping[JobName, History],
    watched: Mapping[object, Watched],
    limits: AccountLimits,
    clock: Clock,
) -> tuple[list[Forgotten], list[str]]:
    """Enforcement of the limits: what nobody pays is held against what nobody pays."""
    told, unseen = list[Forgotten](), list[str]()
    for embedded in (False, True):
        jobs = [one for one in histories.values() if registry.is_embedded(one.job.provider.kind) is embedded]
        there = {place: one for place, one in watched.items() if one.embedded is embedded}
        if jobs or there:
            said, blind = enforce(ledger, jobs, there, limits, clock)
            told += said
            unseen += blind
    return told, unseen


def _places(histories: Mapping[JobName, History], kinds: Sequence[str]) -> dict[object, ProviderTable]:
    """Providers to look at: of every job that has begun to rent, those that nobody pays only while something lives.

    And those of the ``kinds``, whoever rents there.
    """
    found: dict[object, ProviderTable] = {ownership.place(table): table for table in map(_of_kind, kinds)}
    for history in histories.values():
        table = history.job.provider
        has_rented = bool(history.labels) or history.job.adopted
        is_paid = history.job.is_billed and not registry.is_embedded(table.kind)
        if bills(history).may_bill or (has_rented and is_paid):
            found.setdefault(ownership.place(table), table)
    return found


def _of_kind(kind: str) -> ProviderTable:
    return ProviderTable(kind=kind)


def _notify(seen: Round, memory: Path, now: float, again_s: float) -> tuple[str, ...]:
    """Tell everybody of what was not told before, or long ago; the lines of that, and of what did not arrive.

    What arrived nowhere counts as not told.
    """
    told = _remembered(memory, now)
    news = [one for one in seen.forgotten if now - told.get(one.key, 0.0) >= again_s]
    title = f"{len(news)} of what bills needs you" if len(news) > 1 else "something bills and needs you"
    notices = [(Notice(Occasion.BILLS, title, "\n".join(one.told for one in news)), news)]
    looks = told.get(_LOOKS, 0.0) + 1 if seen.unseen else 0.0
    if looks >= _BLIND_LOOKS and now - told.get(_BLIND, 0.0) >= again_s:
        said = f"{looks:.0f} looks in a row did not see everything: {'; '.join(seen.unseen)}"
        notices.append((Notice(Occasion.BLIND, "harness watch cannot look", said), [Forgotten(_BLIND, said)]))
    limited = told.pop(_LIMITED, 0.0)
    if limited and not seen.limited and seen.failed is None:
        gone = Forgotten(_GONE, f"{FILE} is gone (it was there at {rfc3339(limited)}): nothing is limited but each job")
        notices.append((Notice(Occasion.BILLS, f"{FILE} is gone", gone.told), [gone]))
    # What cannot be seen is not over.
    kept = told if seen.unseen else {one.key: told[one.key] for one in seen.forgotten if one.key in told}
    fresh, problems = dict[str, float](), list[str]()
    for notice, ones in notices:
        missed = targets.send(notice, seen.urls) if ones else ()
        if not seen.urls or len(missed) < len(seen.urls):
            fresh |= {one.key: now for one in ones}
        problems += missed
    limited = now if seen.limited else 0.0 if _GONE in fresh else limited
    counted = {key: value for key, value in {_LOOKS: looks, _LIMITED: limited}.items() if value}
    durable.write(memory, json.dumps({**kept, **fresh, **counted}).encode())
    return (*(one.told for _, ones in notices for one in ones), *problems)


def _remembered(memory: Path, now: float) -> dict[str, float]:
    """When each thing was told last; nothing where that does not read, or is yet to come: it is told once more then."""
    try:
        told = json.loads(memory.read_bytes())
        return {str(key): float(at) for key, at in told.items() if float(at) <= now}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _end(seen: Round) -> None:
    """Raise what a single look ends with, unless everything was seen and nothing is forgotten."""
    if seen.failed is not None:
        raise seen.failed
    if seen.forgotten:
        more = f"; and not everything could be looked at: {'; '.join(seen.unseen)}" if seen.unseen else ""
        raise StillBilling(f"{len(seen.forgotten)} of what bills needs somebody{more}")
    if seen.unseen:
        raise ProviderUnavailable("not everything could be looked at: " + "; ".join(seen.unseen))


def _test() -> None:
    """Send a test to everybody of HARNESS_NOTIFY; raises BadInput when somebody is not reached."""
    urls = environment.notify_urls()
    if not urls:
        raise BadInput(f"{environment.NOTIFY_VARIABLE} names nobody", remedy="Set it to URLs with blanks between them.")
    problems = targets.send(Notice(Occasion.TEST, "gold-standard-harness", "A test: you would be told here."), urls)
    if problems:
        raise BadInput("; ".join(problems), remedy="Correct the target, and try again.")
    typer.echo(f"told {len(urls)} of {len(urls)} targets")
