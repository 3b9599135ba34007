"""How fast bytes move: the rate shown to people, and how many connections the line deserves. Pure."""

from __future__ import annotations

from collections import deque

from harness.core.ports import Progress


class Meter:
    """Bytes over the last seconds."""

    def __init__(self, total: int, done: int, now: float, span: float = 5.0) -> None:
        self._total = total
        self._span = span
        self._marks = deque([(now, done)])

    def at(self, now: float, done: int) -> Progress:
        """The progress now; ``done`` bytes of the total are here."""
        self._marks.append((now, done))
        while len(self._marks) > 2 and self._marks[1][0] <= now - self._span:
            self._marks.popleft()
        then, before = self._marks[0]
        rate = (done - before) / (now - then) if now > then else 0.0
        return Progress(done, self._total, max(rate, 0.0))


class Stall:
    """Tells silence from slowness: less than ``least`` bytes within ``seconds`` is a stall."""

    def __init__(self, seconds: float, least: int = 16 << 10) -> None:
        self._seconds = seconds
        self._least = least
        self._since: float | None = None
        self._bytes = 0

    def over(self, now: float, received: int) -> bool:
        """Whether the bytes received so far are a stall at this time."""
        if self._since is None or received - self._bytes >= self._least:
            self._since, self._bytes = now, received
        return now - self._since > self._seconds

    def reset(self) -> None:
        """A new stream: the clock starts with its first look."""
        self._since = None


ENOUGH = 150e6
"""Bytes a second that one connection brings only where the processors are the limit, and more of them a burden.

On two cores one paramiko connection over the loopback brought 390 MB/s; two 370, four 320.
"""


class Ramp:
    """How many connections: doubled while that brings at least ``gain`` more, else back to the best number.

    After ``hold`` seconds at the best number it tries more again, for lines change.
    """

    def __init__(self, start: int, most: int, window: float = 1.0, gain: float = 1.15, hold: float = 60.0) -> None:
        self._wanted = min(start, most)
        self._most = most
        self._window = window
        self._gain = gain
        self._hold = hold
        self._best = (0.0, self._wanted)
        self._mark: tuple[float, int] | None = None
        self._held_until: float | None = None

    def advise(self, now: float, received: int, flowing: int) -> int:
        """The number of connections to have, given the bytes received so far and how many bring any now."""
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
        if elapsed < self._window:
            return self._wanted
        rate = (received - self._mark[1]) / elapsed
        self._mark = None
        if rate > self._best[0] * self._gain:
            self._best = (rate, self._wanted)
            if self._wanted < self._most and rate < ENOUGH * self._wanted:
                self._wanted = min(self._wanted * 2, self._most)
                return self._wanted
        self._wanted = self._best[1]
        self._held_until = now + self._hold
        return self._wanted
