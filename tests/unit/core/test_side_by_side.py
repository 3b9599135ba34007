"""Several slow things at once: their answers in order, and nobody waits for the one that hangs."""

from __future__ import annotations

import threading
from functools import partial

from harness.core.clock import SystemClock
from harness.core.side_by_side import side_by_side


def test_all_run_at_once_and_answer_in_their_order() -> None:
    together = threading.Barrier(3)  # passed only by three that wait at the same time

    def work(number: int) -> str:
        together.wait(30.0)
        return f"answer {number}"

    assert side_by_side([partial(work, number) for number in range(3)], 30.0, "late") == tuple(
        f"answer {number}" for number in range(3)
    )


def test_one_that_hangs_is_left_alone() -> None:
    hangs, clock = threading.Event(), SystemClock()
    begun = clock.monotonic()
    try:
        assert side_by_side([lambda: hangs.wait(60.0), lambda: True], 0.5, False) == (False, True)
    finally:
        hangs.set()
    assert clock.monotonic() - begun < 30.0
