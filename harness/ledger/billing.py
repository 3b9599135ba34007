"""What a job costs at its rental's price: pure arithmetic on the event log.

Time is paid from the rental until destruction was requested, when absence was proven
afterwards, else until now. A stopped instance bills its disk only, which the price by the
hour does not tell apart; it counts as unpaid here, and the provider's own bill says more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.lifecycle import Stage
from harness.ledger.events import Event
from harness.ledger.history import History

_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class PaidSpan:
    """Time that was billed at one price. Seconds since the epoch, USD an hour."""

    start: float
    end: float
    usd_per_hour: float


def paid_spans(events: Sequence[Event], now: float) -> tuple[PaidSpan, ...]:
    """The spans in which an instance ran and was billed, in order."""
    spans: list[PaidSpan] = []
    since: float | None = None
    price = 0.0
    gone = _gone_at(events)
    for event in events:
        match event.kind:
            case "rented" | "adopted":  # an adopted one was paid for before anybody here knew of it
                since, price = float(str(event.data.get("since", event.at))), float(str(event.data["usd_per_hour"]))
            case "instance_started" if since is None:
                since = event.at
            case "instance_stopped" | "destroy_requested" if since is not None:
                if event.kind == "instance_stopped" or event.at == gone:
                    spans.append(PaidSpan(since, event.at, price))
                    since = None
            case "lost" | "abandoned" if since is not None:  # when it was proven: it may have gone before
                spans.append(PaidSpan(since, event.at, price))
                since = None
            case _:
                pass
    if since is not None:
        spans.append(PaidSpan(since, max(since, now if gone is None else gone), price))
    return tuple(spans)


def seconds_within(spans: Sequence[PaidSpan], start: float, end: float) -> float:
    """Paid seconds between two times."""
    return sum(max(0.0, min(end, span.end) - max(start, span.start)) for span in spans)


def usd_within(spans: Sequence[PaidSpan], start: float, end: float) -> float:
    """What the time between two times cost (USD)."""
    return sum(seconds_within([span], start, end) * span.usd_per_hour / _HOUR_S for span in spans)


def spent(history: History, now: float) -> float | None:
    """What the job's instances have cost until ``now`` (USD); None before one was rented."""
    spans = paid_spans(history.events, now)
    return usd_within(spans, 0.0, now) if spans else None


def gone_at(history: History) -> float | None:
    """When the destruction was requested that was proven afterwards; None while the instance may bill."""
    return _gone_at(history.events)


def training_ended_at(history: History) -> float | None:
    """When the training ended by the box's account; where that is not known, when its gate opened."""
    if history.trained_at is not None:
        return history.trained_at
    gate = history.gates.get(Stage.TRAINING)
    return gate.at if gate is not None and history.passed(Stage.TRAINING) else None


def download_rate(history: History) -> float | None:
    """Bytes per second at which the artifact came home, when it was last seen to come."""
    rates = [event.data.get("bytes_per_s") for event in history.events if event.kind == "fetched"]
    return next((float(rate) for rate in reversed(rates) if isinstance(rate, int | float) and rate > 0), None)


def _gone_at(events: Sequence[Event]) -> float | None:
    """The first request since the last rental, when a proof of absence follows; the proof's time without one."""
    requested: float | None = None
    gone: float | None = None
    for event in events:
        if event.kind in {"rented", "adopted"}:
            requested = gone = None
        elif event.kind == "destroy_requested":
            requested = event.at
        elif event.kind == "destroyed":
            gone = event.at if requested is None else requested
    return gone
