"""The one place where time enters. Everything else takes a ``ports.Clock``."""

from __future__ import annotations

import time
from dataclasses import dataclass

_STEADY: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


@dataclass(frozen=True, slots=True)
class SystemClock:
    """The operator's own clock."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never run backwards, for durations and deadlines; those that this machine slept count.

        What is rented bills while a laptop is closed. ``time.monotonic`` leaves that time out on Linux and macOS
        (clock_gettime(2): CLOCK_BOOTTIME; there CLOCK_MONOTONIC goes on), and has it on Windows.
        """
        return time.monotonic() if _STEADY is None else time.clock_gettime(_STEADY)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)
