"""A clock that runs like the real one and can be turned forward."""

from __future__ import annotations

import threading

from harness.core.clock import SystemClock
from harness.core.ports import Clock


class TurnableClock:
    """Time for a rehearsal: it follows a base clock at a speed, and leaps when it is turned.

    With ``speed=0`` it stands still until it is turned, so that a test decides every instant.
    """

    def __init__(self, base: Clock | None = None, *, speed: float = 1.0) -> None:
        if speed < 0:
            raise ValueError("a clock does not run backwards")
        self._base = base or SystemClock()
        self._speed = speed
        self._origin = self._base.now()
        self._mark = self._base.monotonic()
        self._turned = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        """Seconds since the epoch, UTC, as this clock has them."""
        return self._origin + self.monotonic()

    def monotonic(self) -> float:
        """Seconds since the clock was made: those that passed and those it was turned by."""
        with self._lock:
            return (self._base.monotonic() - self._mark) * self._speed + self._turned

    def turn(self, seconds: float) -> None:
        """Leap forward; raises ValueError on a leap backwards."""
        if seconds < 0:
            raise ValueError("a clock does not run backwards")
        with self._lock:
            self._turned += seconds

    def sleep(self, seconds: float) -> None:
        """Turn the clock instead of waiting: whoever sleeps on it wakes up at once, later."""
        self.turn(max(0.0, seconds))
