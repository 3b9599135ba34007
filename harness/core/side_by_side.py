"""Several slow things done at once, none of them waited for longer than for the whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from harness.core.clock import SystemClock

T = TypeVar("T")


def side_by_side(works: Sequence[Callable[[], T]], within_s: float, late: T) -> tuple[T, ...]:
    """Answer of each, in order; ``late`` for one that has not ended in time, which is left alone. None may raise."""
    clock, ended = SystemClock(), [late] * len(works)

    def do(number: int) -> None:
        ended[number] = works[number]()

    threads = [threading.Thread(target=do, args=(number,), daemon=True) for number in range(len(works))]
    for thread in threads:
        thread.start()
    deadline = clock.monotonic() + within_s
    for thread in threads:
        thread.join(max(0.0, deadline - clock.monotonic()))
    return tuple(ended)
