"""How fast bytes move: the rate shown to people, and how many connections the line deserves. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from harness.ports import Progress


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
            if self._wanted < self._most:
                self._wanted = min(self._wanted * 2, self._most)
                return self._wanted
        self._wanted = self._best[1]
        self._held_until = now + self._hold
        return self._wanted


class Carriers:
    """Which carrier the next stream takes: the one that promises most, and once another beside it, to compare.

    ``fallback`` is never given up for failing: it is enough by itself, and has nothing to fall back to.
    """

    def __init__(self, names: Sequence[str], fallback: str, better: float = 1.2) -> None:
        self._names = tuple(names)
        self.fallback = fallback
        self._better = better
        self.beaten: frozenset[str] = frozenset()
        """Carriers that were clearly slower than another: what they carry now is better carried otherwise."""

    @property
    def admitted(self) -> tuple[str, ...]:
        """The carriers that new streams may take, the preferred one first."""
        return self._names

    def next(self, in_use: Sequence[str]) -> str:
        """The carrier for one more stream beside those in use."""
        untried = [name for name in self._names if name not in in_use]
        return untried[0] if untried else self._names[0]

    def compare(self, rates: Mapping[str, Sequence[float]]) -> None:
        """Judge by the streams' rates, once every carrier has one: the preferred one stays unless clearly beaten."""
        if len(self._names) < 2 or not all(rates.get(name) for name in self._names):
            return
        mean = {name: sum(rates[name]) / len(rates[name]) for name in self._names}
        first = self._names[0]
        best = max(self._names, key=lambda name: mean[name] / (self._better if name != first else 1.0))
        self.beaten = frozenset(name for name in self._names if mean[name] * self._better < mean[best])
        self._names = (best,)

    def without(self, name: str) -> str:
        """The carrier to use after one failed without bringing a byte."""
        if name != self.fallback:
            self._names = tuple(other for other in self._names if other != name) or (self.fallback,)
        return self.fallback
