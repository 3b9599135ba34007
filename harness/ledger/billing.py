"""Cost of a job at its rental's price: pure arithmetic on the event log.

Time is paid from the rental until destruction was requested, when absence was proven
afterwards, else until now. A stopped instance is paid at its disk's price; where the provider
does not tell that, it counts as unpaid here, and the provider's own bill says more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.core.ids import InstanceId
from harness.core.lifecycle import Stage
from harness.core.money import usd
from harness.ledger import events
from harness.ledger.bills import disk_price
from harness.ledger.chain import Record
from harness.ledger.codec import decode
from harness.ledger.history import History
from harness.ledger.kinds import JobEvent
from harness.ledger.settled import SwitchFired

COUNTED = frozenset(
    kind.kind
    for kind in (
        events.Rented,
        events.Adopted,
        events.InstanceStarted,
        events.InstanceStopped,
        SwitchFired,
        events.DestroyRequested,
        events.Destroyed,
        events.Abandoned,
        events.Lost,
    )
)
"""Kinds of event that begin or end what is billed: all of them tell what a job has cost, the newest of each do not."""


@dataclass(frozen=True, slots=True)
class PaidSpan:
    """Time that was billed at one price. Seconds since the epoch, USD an hour; ``stopped``: the disk alone."""

    start: float
    end: float
    usd_per_hour: float
    stopped: bool = False


def paid_spans(records: Sequence[Record], now: float) -> tuple[PaidSpan, ...]:
    """The spans in which an instance was billed, in order: running, and stopped where its disk's price is known."""
    spans: list[PaidSpan] = []
    paying: PaidSpan | None = None
    price, disk = 0.0, None
    happened = _decoded(records)
    gone = _gone_at(happened)
    for at, event in happened:
        ends, begun = isinstance(event, events.DestroyRequested) and at == gone, None
        match event:
            case events.Rented(usd_per_hour=price):
                disk, paying = disk_price(event.offer), PaidSpan(at, at, price)
            case events.Adopted(usd_per_hour=price):  # it was paid for before anybody here knew of it
                since = at if event.since is None else event.since
                disk, paying = disk_price(event.offer), PaidSpan(since, since, price)
            case events.InstanceStarted() if paying is None or paying.stopped:
                ends, begun = True, PaidSpan(at, at, price)
            case events.InstanceStopped() | SwitchFired() if paying is not None and not paying.stopped:
                ends, begun = True, None if disk is None else PaidSpan(at, at, disk, stopped=True)
            case events.Lost() | events.Abandoned():  # when proven: it may have gone before
                ends = True
            case _:
                pass
        if ends:
            spans += [] if paying is None else [replace(paying, end=at)]
            paying = begun
    if paying is not None:
        spans.append(replace(paying, end=max(paying.start, now if gone is None else gone)))
    return tuple(spans)


def seconds_within(spans: Sequence[PaidSpan], start: float, end: float, *, stopped: bool = False) -> float:
    """Seconds between two times in which an instance ran and was paid for; or was ``stopped``, and its disk was."""
    return sum(_seconds(span, start, end) for span in spans if span.stopped is stopped)


def usd_within(spans: Sequence[PaidSpan], start: float, end: float) -> float:
    """Cost of the time between two times (USD)."""
    return sum(usd(_seconds(span, start, end), span.usd_per_hour) for span in spans)


def _seconds(span: PaidSpan, start: float, end: float) -> float:
    return max(0.0, min(end, span.end) - max(start, span.start))


def spent(history: History, now: float) -> float | None:
    """Cost of the job's instances until ``now`` (USD); None before one was rented."""
    spans = paid_spans(history.records, now)
    return usd_within(spans, 0.0, now) if spans else None


@dataclass(frozen=True, slots=True)
class ProviderBooks:
    """The provider's own time, when the job's instance began by it, and the sum that the job was charged (USD).

    None for what it does not tell. ``ran_until``: the log's last sight of an instance that has stopped itself since.
    """

    now: float | None = None
    started_at: float | None = None
    charged: float | None = None
    ran_until: float | None = None

    def seconds_since(self, at: float, now: float) -> float:
        """Seconds since a time in the log, ``now`` by this machine's clock: never more than the instance is old."""
        passed = max(0.0, (now if self.now is None else self.now) - at)
        age = self.age
        return passed if age is None else min(passed, age)

    @property
    def age(self) -> float | None:
        """Seconds since the instance began; None when the provider's own times do not tell it."""
        if self.now is None or self.started_at is None or self.started_at > self.now:
            return None
        return self.now - self.started_at


def spent_by(history: History, now: float, books: ProviderBooks) -> float:
    """Cost of the job until now (USD), by the provider's times where it tells them, and never less than it charged.

    The log's own times are of a clock that may have been wrong when they were written: an instance that was never
    stopped has run from the provider's start to the provider's now; one that was started again, for the shorter time
    by either clock. ``now`` is of this machine's clock.
    """
    moment = now if books.now is None else books.now
    spans, age = paid_spans(history.records, moment), books.age
    reckoned = sum(usd(max(0.0, one.end - one.start), one.usd_per_hour) for one in spans)
    if history.alive is not None and spans and not history.instance_stopped:
        newest = spans[-1]
        reckoned -= usd(max(0.0, newest.end - newest.start), newest.usd_per_hour)
        if books.ran_until is not None:
            ran = max(0.0, books.ran_until - newest.start)
        elif age is not None and _ran_through(history.records, history.alive.instance_id):
            ran = age
        else:  # the log's clock may be off by as much at both ends: what neither the instance nor time allows is not so
            apart = (now - newest.start, moment - newest.start)
            ran = min((one for one in apart if 0 <= one <= (one if age is None else age)), default=0.0)
        reckoned += usd(ran, newest.usd_per_hour)
    return max(reckoned, books.charged or 0.0)


def _ran_through(records: Sequence[Record], instance_id: InstanceId) -> bool:
    """True when the log knows of no stop of this instance since it was had."""
    stopped = True
    for _, event in _decoded(records):
        match event:
            case events.Rented() | events.Adopted():
                stopped = event.instance_id != instance_id
            case events.InstanceStopped() | events.DestroyRequested() | SwitchFired():
                stopped = True
            case _:
                pass
    return not stopped


def training_ended_at(history: History) -> float | None:
    """Time at which the training ended by the box's account; where that is not known, its gate opened."""
    if history.trained_at is not None:
        return history.trained_at
    return history.judged_at[Stage.TRAINING] if history.passed(Stage.TRAINING) else None


def download_rate(history: History) -> float | None:
    """Bytes per second at which the artifact came home, when it was last seen to come."""
    rates = [event.bytes_per_s for event in history.all(events.Fetched)]
    return next((rate for rate in reversed(rates) if rate is not None and rate > 0), None)


def gone_at(records: Sequence[Record]) -> float | None:
    """Time of the last destruction request that a proof of absence followed; None while the instance may bill.

    The proof's own time where nothing was requested.
    """
    return _gone_at(_decoded(records))


def _decoded(records: Sequence[Record]) -> list[tuple[float, JobEvent | None]]:
    """Time and event of each record that counts, decoded once: a long log has thousands of polls.

    That a box had stopped itself is told once it was started again: it comes before that start.
    """
    happened: list[tuple[float, JobEvent | None]] = []
    for record in records:
        if record.kind not in COUNTED:
            continue
        at, event = record.at, decode(record)
        if isinstance(event, SwitchFired):
            starts = [place for place, (_, one) in enumerate(happened) if isinstance(one, events.InstanceStarted)]
            happened.insert(starts[-1] if starts else len(happened), (event.at, event))
        else:
            happened.append((at, event))
    return happened


def _gone_at(happened: Sequence[tuple[float, JobEvent | None]]) -> float | None:
    requested: float | None = None
    gone: float | None = None
    for at, event in happened:
        match event:
            case events.Rented() | events.Adopted():
                requested = gone = None
            case events.DestroyRequested():
                requested = at
            case events.Destroyed():
                gone = at if requested is None else requested
            case _:
                pass
    return gone
