"""The line that the harness writes into the log before it starts an unmodified trainer, which says nothing of its own.

By it the attempts of one log are told apart, and the log of this job from another one's. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

CUE: Final = "HARNESS LAUNCH"
_LINE: Final = re.compile(rf"{CUE} (\d{{1,6}}) of (\S{{1,200}}) on instance (\S{{1,200}})")


@dataclass(frozen=True, slots=True)
class LaunchLine:
    """A launch of a job's training on an instance; the first has the number 1."""

    job: str
    instance: str
    number: int

    def __str__(self) -> str:
        return f"{CUE} {self.number} of {self.job} on instance {self.instance}"


def read(line: str) -> LaunchLine | None:
    """The launch of which a clean line tells; None for another line."""
    found = _LINE.fullmatch(line)
    return LaunchLine(found[2], found[3], int(found[1])) if found else None
