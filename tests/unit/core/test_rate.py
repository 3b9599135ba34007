"""Rates of the last seconds, and what they say about the time that is left."""

from __future__ import annotations

import pytest

from harness.core.rate import MeterReading, RateMeter


def test_the_rate_is_of_the_last_seconds() -> None:
    meter = RateMeter(window_s=5.0)
    meter.update(0.0, 0, 100)
    for second in range(1, 20):
        reading = meter.update(float(second), 50 if second < 10 else 50 + (second - 9), 100)
    assert reading.rate == pytest.approx(1.0)
    assert (reading.done, reading.total, reading.share) == (60, 100, 0.6)
    assert meter.whole == (60, 19.0)


def test_samples_that_are_rarer_than_the_window_still_make_a_rate() -> None:
    meter = RateMeter(window_s=5.0)
    assert meter.whole == (0, 0.0)
    assert meter.update(0.0, 1000, 2000).rate is None  # a resumed transfer: what was there before was not fast
    assert meter.update(10.0, 1100, 2000).rate == pytest.approx(10)
    assert meter.update(20.0, 1100, 2000).rate == 0
    assert meter.update(30.0, 1100, 2000).left_s is None


def test_a_count_that_goes_back_starts_the_measurement_anew() -> None:
    meter = RateMeter()
    meter.update(0.0, 1000, 2000)
    meter.update(10.0, 1100, 2000)
    assert meter.update(20.0, 500, 2000).rate is None
    assert meter.update(30.0, 520, 2000).left_s == pytest.approx(740)
    assert meter.whole == pytest.approx((20, 10))
    assert meter.update(40.0, 0, 0).share == 1


def test_a_count_that_goes_back_a_little_is_no_rate_of_less_than_nothing() -> None:
    meter = RateMeter()
    meter.update(0.0, 0, 2000)
    meter.update(10.0, 100, 2000)
    assert meter.update(20.0, 50, 2000).rate is None
    assert meter.whole == (0, 0.0)


def test_a_stall_within_the_window_is_none_yet() -> None:
    meter = RateMeter(window_s=15.0)
    meter.update(0.0, 0, 2000)
    meter.update(10.0, 100, 2000)
    assert meter.update(20.0, 100, 2000).rate == pytest.approx(5)
    assert meter.update(30.0, 100, 2000).rate == 0


def test_what_is_as_old_as_the_window_is_not_in_it() -> None:
    meter = RateMeter(window_s=10.0)
    meter.update(0.0, 0, 2000)
    meter.update(10.0, 100, 2000)
    assert meter.update(20.0, 100, 2000).rate == 0


@pytest.mark.parametrize(
    ("done", "total", "share"), [(25, 100, 0.25), (1, 1, 1), (150, 100, 1), (-5, 100, 0), (0, 0, 1), (5, -1, 1)]
)
def test_the_share_is_from_nothing_to_everything(done: int, total: int, share: float) -> None:
    assert MeterReading(done, total, None).share == share
