"""Arithmetic of money and time on a log, by the log's own times and by the provider's."""

from __future__ import annotations

import pytest

from harness.core.ids import InstanceId
from harness.ledger import billing
from harness.ledger.billing import PaidSpan, ProviderBooks
from harness.ledger.events import (
    Abandoned,
    Adopted,
    Destroyed,
    DestroyRequested,
    Fetched,
    InstanceStarted,
    InstanceStopped,
    Lost,
    Rented,
)
from harness.ledger.kinds import JobEvent
from tests.support.job_histories import BEGAN, DIGEST, INSTANCE, LABEL, LOCAL, SIZE, Log

HOUR = 3600.0


@pytest.mark.parametrize(
    ("books", "age", "passed"),
    [
        (ProviderBooks(), None, 500.0),
        (ProviderBooks(now=1400.0), None, 400.0),
        (ProviderBooks(started_at=900.0), None, 500.0),
        (ProviderBooks(now=1400.0, started_at=1300.0), 100.0, 100.0),
        (ProviderBooks(now=1400.0, started_at=900.0), 500.0, 400.0),
        (ProviderBooks(now=1400.0, started_at=1400.0), 0.0, 0.0),
        (ProviderBooks(now=1400.0, started_at=1401.0), None, 400.0),
        (ProviderBooks(now=900.0), None, 0.0),
    ],
)
def test_seconds_since_a_time_in_the_log_are_at_most_the_instances_age(
    books: ProviderBooks, age: float | None, passed: float
) -> None:
    assert (books.age, books.seconds_since(1000.0, 1500.0)) == (age, passed)


def test_a_job_that_rented_nothing_has_cost_nothing_that_could_be_told() -> None:
    history = Log().history
    assert billing.spent(history, 1e10) is None
    assert billing.spent_by(history, 1e10, ProviderBooks(now=1e10)) == 0.0
    assert billing.gone_at(history.records) is None


def test_an_instance_that_runs_is_paid_until_now_and_never_less_than_was_charged() -> None:
    log = Log().rented()
    began = log.at
    assert billing.paid_spans(log.records, began + HOUR) == (PaidSpan(began, began + HOUR, 16.0),)
    assert billing.paid_spans(log.records, began - HOUR) == (PaidSpan(began, began, 16.0),)
    assert billing.spent(log.history, began + HOUR) == 16.0
    assert billing.spent_by(log.history, began + HOUR, ProviderBooks()) == 16.0
    assert billing.spent_by(log.history, began + HOUR, ProviderBooks(charged=20.0)) == 20.0
    assert billing.spent_by(log.history, began + HOUR, ProviderBooks(charged=2.0)) == 16.0
    assert billing.spent_by(log.history, 0.0, ProviderBooks(now=began + HOUR)) == 16.0


def test_the_providers_age_of_an_instance_that_never_stopped_is_paid() -> None:
    log = Log().rented()
    books = ProviderBooks(now=log.at + HOUR, started_at=log.at - HOUR)
    assert billing.spent_by(log.history, log.at, books) == 32.0
    log.add(InstanceStopped(INSTANCE, "asked"), after=HOUR).add(InstanceStarted(INSTANCE), after=HOUR)
    books = ProviderBooks(now=log.at + HOUR, started_at=log.at - 5 * HOUR)
    assert billing.spent_by(log.history, log.at + HOUR, books) == 32.0
    assert billing.spent_by(log.history, log.at, books) == 16.0, "a clock that is always an hour behind"


def test_a_stop_is_not_paid_and_money_is_counted_between_two_times() -> None:
    log = Log().rented()
    began = log.at
    log.add(InstanceStopped(INSTANCE, "asked"), after=HOUR).add(InstanceStarted(INSTANCE), after=HOUR)
    spans = billing.paid_spans(log.records, began + 3 * HOUR)
    assert spans == (PaidSpan(began, began + HOUR, 16.0), PaidSpan(began + 2 * HOUR, began + 3 * HOUR, 16.0))
    assert billing.seconds_within(spans, began + HOUR / 2, began + 2.5 * HOUR) == HOUR
    assert billing.usd_within(spans, began + HOUR / 2, began + 2.5 * HOUR) == 16.0
    assert billing.seconds_within(spans, began + 4 * HOUR, began + 5 * HOUR) == 0.0


def test_it_is_paid_until_destruction_was_asked_for_once_absence_is_proven() -> None:
    log = Log().rented()
    began = log.at
    log.add(DestroyRequested(INSTANCE, reply="accepted"), after=HOUR)
    assert billing.gone_at(log.records) is None
    assert billing.spent(log.history, log.at + HOUR) == 32.0
    log.add(Destroyed(INSTANCE, absence={}, billing={}), after=HOUR)
    assert billing.gone_at(log.records) == began + HOUR
    assert billing.spent(log.history, log.at + HOUR) == 16.0
    assert billing.gone_at(log.rented().records) is None


def test_what_was_never_asked_for_is_gone_when_it_is_proven() -> None:
    log = Log().rented().add(Destroyed(INSTANCE, absence={}, billing={}), after=HOUR)
    assert billing.gone_at(log.records) == log.at


def test_a_rate_is_the_newest_that_was_measured() -> None:
    log = Log().trained()
    assert billing.download_rate(log.history) is None
    for rate in (3e6, 5e6, 0.0, None):
        log.add(Fetched(LOCAL, SIZE, DIGEST, bytes_per_s=rate))
    assert billing.download_rate(log.history) == 5e6


def test_a_training_ended_when_its_gate_opened_where_the_box_told_no_time() -> None:
    assert billing.training_ended_at(Log().rented().history) is None
    log = Log().trained()
    assert billing.training_ended_at(log.history) == log.at


def test_a_stop_is_paid_at_the_disks_price_where_that_is_told() -> None:
    """Twice stopped, and destroyed while it stood: the GPUs are paid for an hour, the disk for the rest."""
    log = Log()
    offer = {"gpu_name": "H100 SXM", "num_gpus": 8, "usd_per_hour": 16.0, "disk_usd_per_hour": 0.03}
    log.add(Rented(INSTANCE, LABEL, offer, usd_per_hour=16.0, owner=7))
    began = log.at
    log.add(InstanceStopped(INSTANCE, "asked"), after=HOUR).add(InstanceStopped(INSTANCE, "again"), after=HOUR)
    assert billing.spent(log.history, began + 11 * HOUR) == pytest.approx(16.0 + 10 * 0.03)
    spans = billing.paid_spans(log.records, began + 11 * HOUR)
    assert billing.seconds_within(spans, began, began + 11 * HOUR) == HOUR, "time in which it ran"
    log.add(InstanceStarted(INSTANCE), after=HOUR)
    assert billing.spent(log.history, log.at + HOUR) == pytest.approx(32.0 + 2 * 0.03)
    log.add(InstanceStopped(INSTANCE, "asked"), after=HOUR).add(DestroyRequested(INSTANCE, "accepted"), after=HOUR)
    log.add(Destroyed(INSTANCE, absence={}, billing={}), after=HOUR)
    assert billing.spent(log.history, log.at + 9 * HOUR) == pytest.approx(32.0 + 3 * 0.03)
    assert billing.spent_by(log.history, log.at, ProviderBooks()) == pytest.approx(32.0 + 3 * 0.03)


ANOTHER = InstanceId(4712)
OFFER = {"usd_per_hour": 16.0, "disk_usd_per_hour": 0.5}
RENTED = Rented(INSTANCE, LABEL, OFFER, usd_per_hour=16.0, owner=7)
REPLACING = Rented(ANOTHER, LABEL, OFFER, usd_per_hour=2.0, owner=7)
STOPPED, STARTED = InstanceStopped(INSTANCE, "asked"), InstanceStarted(INSTANCE)
ASKED, GONE = DestroyRequested(INSTANCE, reply="accepted"), Destroyed(INSTANCE, absence={}, billing={})
LOST = Lost(INSTANCE, "yes", 12, None, absence={}, billing={})
ABANDONED = Abandoned(INSTANCE, absence={}, billing={})
Spans = list[tuple[float, float, float, bool]]
LIVES: dict[str, tuple[list[JobEvent], Spans]] = {
    "taken over, its start told": ([Adopted(INSTANCE, "", 7, 3.0, OFFER, "running", BEGAN)], [(0, 9, 3.0, False)]),
    "taken over, its start not told": ([Adopted(INSTANCE, "", 7, 3.0, OFFER, "running")], [(1, 9, 3.0, False)]),
    "taken over and stopped": (
        [Adopted(INSTANCE, "", 7, 3.0, OFFER, "running", BEGAN), STOPPED],
        [(0, 2, 3.0, False), (2, 9, 0.5, True)],
    ),
    "lost": ([RENTED, LOST], [(1, 2, 16.0, False)]),
    "abandoned": ([RENTED, ABANDONED], [(1, 2, 16.0, False)]),
    "lost and replaced": ([RENTED, LOST, REPLACING], [(1, 2, 16.0, False), (3, 9, 2.0, False)]),
    "lost after a request": ([RENTED, ASKED, LOST, REPLACING], [(1, 3, 16.0, False), (4, 9, 2.0, False)]),
    "started while it ran": ([RENTED, STARTED], [(1, 9, 16.0, False)]),
    "stopped twice": ([RENTED, STOPPED, STOPPED], [(1, 2, 16.0, False), (2, 9, 0.5, True)]),
    "stopped and started": ([RENTED, STOPPED, STARTED], [(1, 2, 16.0, False), (2, 3, 0.5, True), (3, 9, 16.0, False)]),
    "stopped before it was had": ([STOPPED, RENTED], [(2, 9, 16.0, False)]),
    "asked for twice": ([RENTED, ASKED, ASKED, GONE], [(1, 3, 16.0, False)]),
    "asked for and not gone": ([RENTED, ASKED], [(1, 9, 16.0, False)]),
    "gone and nothing asked": ([RENTED, GONE], [(1, 2, 16.0, False)]),
}


@pytest.mark.parametrize(("events", "spans"), LIVES.values(), ids=LIVES)
def test_time_is_paid_by_what_happened(events: list[JobEvent], spans: Spans) -> None:
    """An event an hour; now is nine hours after the beginning."""
    log = Log()
    for event in events:
        log.add(event, after=HOUR)
    found = billing.paid_spans(log.records, BEGAN + 9 * HOUR)
    told = [((one.start - BEGAN) / HOUR, (one.end - BEGAN) / HOUR, one.usd_per_hour, one.stopped) for one in found]
    assert told == spans
    cost = sum((end - start) * price for start, end, price, _ in spans)
    assert billing.spent(log.history, BEGAN + 9 * HOUR) == pytest.approx(cost)
    ran = [(start, end) for start, end, _, stopped in spans if not stopped]
    assert billing.seconds_within(found, 0.0, BEGAN + 99 * HOUR) == sum(end - start for start, end in ran) * HOUR


AGED: dict[str, tuple[list[JobEvent], float]] = {
    "never stopped": ([RENTED], 5 * 16.0),
    "taken over": ([Adopted(INSTANCE, "", 7, 16.0, OFFER, "running")], 5 * 16.0),
    "another was lost before": ([RENTED, LOST, REPLACING], 16.0 + 5 * 2.0),
    "stopped once": ([RENTED, STOPPED, STARTED], 16.0 + 0.5 + 1 * 16.0),
    "still stopped": ([RENTED, STOPPED], 16.0 + 2 * 0.5),
    "asked to go": ([RENTED, ASKED], 3 * 16.0),
}


@pytest.mark.parametrize(("events", "cost"), AGED.values(), ids=AGED)
def test_the_providers_age_is_what_an_instance_without_a_stop_has_run(events: list[JobEvent], cost: float) -> None:
    """The provider calls it five hours old; by the log its last event was an hour ago, and ``asked to go`` two."""
    log = Log()
    for event in events:
        log.add(event, after=HOUR)
    now = log.at + (2 if len(events) == 2 else 1) * HOUR
    assert billing.spent_by(log.history, now, ProviderBooks(now=now, started_at=now - 5 * HOUR)) == pytest.approx(cost)


def test_a_time_that_neither_clock_allows_is_not_paid() -> None:
    """Started again an hour ago by the log, and a minute old by the provider: one of them is wrong, nothing is sure."""
    log = Log()
    for event in (RENTED, STOPPED, STARTED):
        log.add(event, after=HOUR)
    now = log.at + HOUR
    books = ProviderBooks(now=now, started_at=now - 60.0)
    assert billing.spent_by(log.history, now, books) == pytest.approx(16.0 + 0.5)
    assert billing.spent_by(log.history, log.at - 1.0, ProviderBooks(now=log.at - 1.0)) == pytest.approx(16.0 + 0.5)
