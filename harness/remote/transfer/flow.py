"""Decisions from byte counts: whether a stream is stalled, and how many connections to use. Pure."""

from __future__ import annotations

CPU_BOUND_RATE = 150e6
"""Bytes a second and connection that are only reached where the processors are the limit: more would be a burden.

On two cores one connection over the loopback brought 345 MB/s, and two brought 333.
"""

RAMP_WINDOW_S = 1.0
"""Seconds for which the rate of one number of connections is measured."""

RAMP_GAIN = 1.15
"""Factor by which twice as many connections must be faster to be kept."""


class StallDetector:
    """Tells silence from slowness: less than ``least`` bytes within ``seconds`` is a stall."""

    def __init__(self, seconds: float, least: int = 16 << 10) -> None:
        self._seconds = seconds
        self._least = least
        self._since: float | None = None
        self._bytes = 0

    def stalled(self, now: float, received: int) -> bool:
        """True when the stream is stalled, given the bytes received so far."""
        if self._since is None or received - self._bytes >= self._least:
            self._since, self._bytes = now, received
        return now - self._since > self._seconds

    def reset(self) -> None:
        """Start anew with the next look, for a new stream."""
        self._since = None


class ConnectionRamp:
    """Number of connections: doubled while each doubling brings ``RAMP_GAIN`` times the rate, else the best number.

    ``hold`` seconds after it settled it tries more again, for networks change.
    """

    def __init__(self, start: int, most: int, hold: float = 60.0) -> None:
        self._wanted = min(start, most)
        self._most = most
        self._hold = hold
        self._best = (0.0, self._wanted)
        self._mark: tuple[float, int] | None = None
        self._held_until: float | None = None

    def advise(self, now: float, received: int, flowing: int) -> int:
        """Connections to have, given the bytes received so far and how many connections bring any now."""
        if self._held_until is not None:
            if now < self._held_until:
                return self._wanted
            self._held_until, self._mark, self._best = None, None, (0.0, self._wanted)
        if flowing < self._wanted:
            self._mark = None
            return self._wanted
        if self._mark is None:
            self._mark = (now, received)
            return self._wanted
        elapsed = now - self._mark[0]
        if elapsed < RAMP_WINDOW_S:
            return self._wanted
        rate = (received - self._mark[1]) / elapsed
        self._mark = None
        if rate > self._best[0] * RAMP_GAIN:
            self._best = (rate, self._wanted)
            if self._wanted < self._most and rate < CPU_BOUND_RATE * self._wanted:
                self._wanted = min(self._wanted * 2, self._most)
                return self._wanted
        self._wanted = self._best[1]
        self._held_until = now + self._hold
        return self._wanted
