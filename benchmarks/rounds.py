"""Rounds of rivals in turns, so that what else the machine does weighs on all of them alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


def timed(
    action: Callable[[], T],
    check: Callable[[T], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Callable[[], float]:
    """An action that returns the seconds it took; ``check`` sees its result outside the measured time."""

    def run() -> float:
        began = clock()
        if check is None:
            action()  # what it made is freed within its time
            return clock() - began
        result = action()
        took = clock() - began
        check(result)
        return took

    return run


def in_turns(variants: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """What each variant returned, round by round; every round runs every variant once, in random order."""
    found: dict[str, list[T]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name in random.sample(list(variants), len(variants)):
            found[name].append(variants[name]())
    return found
