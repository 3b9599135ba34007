"""A growing log, followed by questions about what came since the last one; how it is asked is the caller's. Pure.

Memory is bounded by what one answer holds, whatever the log's size. A cut loses nothing and repeats nothing: the next
answer goes on from the byte that the last one ended at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from harness.core.answers import Lines
from harness.core.questions import LinesFrom
from harness.core.text import printable
from harness.log.grammar import MAX_LINE

_LIMIT = 256 << 10
"""Bytes of the log that one question is answered with, at most."""


@dataclass(slots=True)
class LogFollower:
    """A log on the box, from its last ``last`` lines on; ``ask`` raises when the box cannot be asked."""

    path: str
    last: int
    ask: Callable[[LinesFrom], Lines]
    exists: bool = False
    """True once the box has shown the log."""
    _end: int | None = None

    @property
    def begun(self) -> bool:
        """True once the box has answered."""
        return self._end is not None

    def news(self) -> Iterator[str]:
        """The lines that came since the last call, made printable; of the first call, the last that there are.

        A log that has become shorter is another one, and told from its beginning.
        """
        if self._end is None:
            first = self.ask(LinesFrom(self.path, -_LIMIT, _LIMIT))
            self._end, self.exists = first.end, first.exists
            yield from newest(first.lines, self.last)
            return
        while True:
            told = self.ask(LinesFrom(self.path, self._end, _LIMIT))
            if told.bytes < self._end:
                yield "(the log begins anew)"
                self._end = 0
                continue
            self.exists = told.exists
            yield from clean(told.lines)
            if told.end <= self._end:
                return
            self._end = told.end


def newest(lines: Sequence[str], count: int) -> Sequence[str]:
    """The last so many of a log's lines, cleaned."""
    told = [*clean(lines)]
    return told[max(0, len(told) - count) :]


def clean(lines: Sequence[str]) -> Iterator[str]:
    """Lines as a terminal would leave them: of one that was redrawn the last state; empty ones are left out."""
    for line in lines:
        standing = line.rstrip("\r").rpartition("\r")[2]
        if standing.strip():
            yield " ".join(printable(standing, MAX_LINE).splitlines())
