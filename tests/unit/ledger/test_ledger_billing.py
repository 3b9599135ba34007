"""Arithmetic of money and time on a log, by the log's own times and by the provider's."""

from __future__ import annotations

import pytest

from harness.ledger import billing
from harness.ledger.billing import PaidSpan, ProviderBooks
from harness.ledger.events import Destroyed, DestroyRequested, Fetched, InstanceStarted, InstanceStopped, Rented
from tests.support.job_histories import DIGEST, INSTANCE, LABEL, LOCAL, SIZE, Log

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
