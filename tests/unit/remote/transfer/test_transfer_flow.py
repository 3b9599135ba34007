"""Stalls, chunks and the number of connections, on made-up networks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.remote.transfer.flow import CPU_BOUND_RATE, ConnectionRamp, StallDetector
from harness.remote.transfer.journal import LARGEST_CHUNK, SMALLEST_CHUNK, chunk_size


def settle(rate: Callable[[int], float], start: int, most: int = 8, seconds: float = 30.0) -> int:
    """The number of connections a ramp ends with on a network whose rate depends on them."""
    ramp = ConnectionRamp(start, most)
    received, now, wanted = 0.0, 0.0, start
    while now < seconds:
        wanted = ramp.advise(now, int(received), wanted)
        received += rate(wanted) * 0.2
        now += 0.2
    return wanted


@pytest.mark.parametrize(
    ("rate", "start", "expected"),
    [
        (lambda k: k * 10e6, 1, 8),
        (lambda k: k * 10e6, 4, 8),
        (lambda k: min(k, 2) * 10e6, 1, 2),
        (lambda _: 250e6, 1, 1),
        (lambda k: 250e6 / k, 1, 1),
        (lambda k: min(k * 40e6, 100e6), 4, 4),
    ],
    ids=["capped each", "capped each, far", "two fill it", "one fills it", "more is worse", "four fill it"],
)
def test_connections_grow_only_while_that_brings_more(rate: Callable[[int], float], start: int, expected: int) -> None:
    assert settle(rate, start) == expected


@pytest.mark.parametrize(("start", "most"), [(1, 6), (2, 3), (4, 5), (9, 8), (1, 1)])
def test_there_are_never_more_connections_than_allowed(start: int, most: int) -> None:
    assert settle(lambda k: k * 10e6, start, most) == most


def test_a_time_in_which_not_all_of_them_flow_is_not_measured() -> None:
    ramp = ConnectionRamp(1, 8)
    assert ramp.advise(0.0, 0, 1) == 1
    assert [ramp.advise(second, 10, 0) for second in (0.5, 5.0, 10.0)] == [1, 1, 1]
    assert ramp.advise(10.5, 10, 1) == 1
    assert ramp.advise(11.6, 11_000_010, 1) == 2
    assert ramp.advise(12.0, 12_000_000, 2) == 2
    assert ramp.advise(30.0, 12_000_000, 1) == 2
    assert ramp.advise(30.5, 12_000_000, 2) == 2
    assert ramp.advise(31.6, 34_000_000, 2) == 4


def test_nothing_is_concluded_before_bytes_flow() -> None:
    ramp = ConnectionRamp(1, 8)
    for tick in range(100):
        assert ramp.advise(tick * 0.2, 0, 0) == 1
    wanted = [ramp.advise(20.0 + tick * 0.2, int(tick * 2e6), 1) for tick in range(10)]
    assert wanted[-1] == 2


def test_connections_that_bring_nothing_any_more_are_no_reason_for_others() -> None:
    ramp = ConnectionRamp(1, 8)
    assert [ramp.advise(second, 1000, 1) for second in (0.0, 0.5, 1.0, 1.5, 5.0, 61.0, 62.5)] == [1] * 7


@pytest.mark.parametrize("least", [1, 100])
def test_a_stall_is_less_than_the_least_for_longer_than_its_seconds(least: int) -> None:
    stall = StallDetector(10.0, least)
    assert not stall.stalled(0.0, 0)
    assert not stall.stalled(10.0, least - 1)
    assert stall.stalled(10.1, least - 1)
    assert not stall.stalled(10.2, least)
    assert not stall.stalled(20.2, 2 * least - 1)
    assert stall.stalled(20.3, 2 * least - 1)


def test_a_network_that_changed_is_tried_again() -> None:
    ramp = ConnectionRamp(1, 8, hold=10.0)
    received, now, wanted = 0.0, 0.0, 1
    while now < 60:
        wanted = ramp.advise(now, int(received), wanted)
        received += (10e6 if now < 15 else wanted * 10e6) * 0.2
        now += 0.2
    assert wanted == 8


def test_silence_is_not_slowness() -> None:
    stall = StallDetector(10.0)
    assert not any(stall.stalled(float(second), second * 20_000) for second in range(100))
    assert not stall.stalled(100.0, 2_000_000)
    assert not stall.stalled(109.0, 2_000_100)
    assert stall.stalled(111.5, 2_000_200)
    stall.reset()
    assert not stall.stalled(200.0, 2_000_200)


def test_a_connection_that_is_limited_by_the_processor_stays_alone() -> None:
    ramp = ConnectionRamp(1, 8)
    seen = {ramp.advise(tick * 0.2, int(tick * 0.2 * CPU_BOUND_RATE * 1.01), 1) for tick in range(400)}
    assert seen == {1}
    ramp = ConnectionRamp(1, 8)
    seen = {ramp.advise(tick * 0.2, int(tick * 0.2 * CPU_BOUND_RATE * 0.99), 1) for tick in range(20)}
    assert 2 in seen


@given(st.integers(min_value=0, max_value=1 << 40))
def test_chunks_are_between_one_and_thirty_two_mebibytes(size: int) -> None:
    chunk = chunk_size(size)
    assert SMALLEST_CHUNK <= chunk <= LARGEST_CHUNK
    assert chunk == LARGEST_CHUNK or size <= chunk * 32
