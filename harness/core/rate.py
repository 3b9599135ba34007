"""Something long as it is counted: what is counted, its rate, and the time that is left of it. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

BYTES: Final = "bytes"
SECONDS: Final = "seconds"


@dataclass(frozen=True, slots=True)
class Meter:
    """Something long by its name, and what its numbers count: BYTES, or a plural noun such as ``steps``.

    One of SECONDS is a wait of which nothing is heard until its end: it goes on by itself, and its total is the most
    that it may take.
    """

    name: str
    unit: str = BYTES


Show = Callable[[Meter, int, int], None]
"""Told of a meter, what is done of it, and its total."""


def unwatched(meter: Meter, done: int, total: int) -> None:
    """A ``Show`` for what nobody watches."""


@dataclass(frozen=True, slots=True)
class MeterReading:
    """Units done and in total. ``rate`` in units per second, None until two samples differ in time."""

    done: int
    total: int
    rate: float | None

    @property
    def left_s(self) -> float | None:
        """Seconds left at this rate; None while it is unknown or zero."""
        return (self.total - self.done) / self.rate if self.rate else None

    @property
    def share(self) -> float:
        """Part that is done, from 0 to 1; of nothing at all everything is done."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total > 0 else 1.0


class RateMeter:
    """Rate over the last ``window_s`` seconds: long enough to be steady, short enough to show a stall.

    A count that goes back (a training resumed from a checkpoint) starts the measurement anew.
    """

    def __init__(self, window_s: float = 30.0) -> None:
        self._window_s = window_s
        self._samples: deque[tuple[float, int]] = deque()
        self._first = (0.0, 0)

    def update(self, now: float, done: int, total: int) -> MeterReading:
        """Take a sample; ``now`` in seconds of a monotonic clock."""
        if not self._samples or done < self._samples[-1][1]:
            self._samples.clear()
            self._first = (now, done)
        self._samples.append((now, done))
        while len(self._samples) > 2 and self._samples[1][0] <= now - self._window_s:
            self._samples.popleft()
        began, before = self._samples[0]
        return MeterReading(done, total, (done - before) / (now - began) if now > began else None)

    @property
    def whole(self) -> tuple[int, float]:
        """Units done since the measurement began, and the seconds that they took."""
        now, done = self._samples[-1] if self._samples else self._first
        return done - self._first[1], now - self._first[0]
