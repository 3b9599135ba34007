"""How fast something long goes, and when it will be done. Pure but for the clock it is given."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from harness.core.ports import Clock

_WINDOW_S = 30.0
"""The rate is that of the last half minute: long enough to be steady, short enough to show a stall."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How far it is. ``rate`` in units a second and ``left_s`` in seconds, None while they cannot be known."""

    done: int
    total: int
    rate: float | None
    left_s: float | None

    @property
    def share(self) -> float:
        """From 0 to 1; of nothing at all everything is done."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total > 0 else 1.0


@dataclass(slots=True)
class Pace:
    """Remembers the last half minute of one meter, and where it began in this process."""

    clock: Clock
    _samples: deque[tuple[float, int]] = field(default_factory=deque)
    _first: tuple[float, int] = (0.0, 0)

    def update(self, done: int, total: int) -> Reading:
        """Take a sample. A count that goes back (a training resumed from a checkpoint) starts the measurement anew."""
        now = self.clock.monotonic()
        if self._samples and done < self._samples[-1][1]:
            self._samples.clear()
        if not self._samples:
            self._first = (now, done)
        self._samples.append((now, done))
        while len(self._samples) > 2 and now - self._samples[0][0] > _WINDOW_S:
            self._samples.popleft()
        began, count = self._samples[0]
        rate = (done - count) / (now - began) if now > began else None
        left = (total - done) / rate if rate else None
        return Reading(done, total, rate, left)

    @property
    def whole(self) -> tuple[int, float]:
        """What was done since the measurement began, and in how many seconds."""
        (began, first), (now, done) = self._first, self._samples[-1] if self._samples else self._first
        return done - first, now - began
