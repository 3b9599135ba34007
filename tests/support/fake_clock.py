"""A clock that moves only when somebody sleeps on it or turns it."""

from __future__ import annotations

import threading


class FakeClock:
    """A ``ports.Clock`` that never waits on real time; ``slept`` lists every sleep in seconds."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._start = now
        self._passed = 0.0
        self._set = 0.0
        self._lock = threading.Lock()
        self.slept: list[float] = []

    def now(self) -> float:
        """Seconds since the epoch, as this machine believes."""
        return self.true() + self._set

    def true(self) -> float:
        """Seconds since the epoch, as everybody else knows."""
        return self._start + self._passed

    def set(self, seconds: float) -> None:
        """Somebody sets this machine's wall clock, so many seconds ahead of the true time."""
        self._set = seconds

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._passed

    def sleep(self, seconds: float) -> None:
        """Move on at once."""
        self.slept.append(seconds)
        self.turn(seconds)

    def turn(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self._passed += seconds
