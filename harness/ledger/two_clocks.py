"""One moment by the provider's clock, by which days begin and instances start, and by that of the logs. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TwoClocks:
    """This moment by the provider's clock and by this machine's, by which the logs were written (epoch seconds).

    A clock that is wrong shifts what a log tells, and makes it no longer.
    """

    provider: float
    here: float

    @staticmethod
    def told(provider: float | None, here: float) -> TwoClocks:
        """The moment as both tell it; by this machine's clock alone where the provider tells none."""
        return TwoClocks(here if provider is None else provider, here)

    def of_a_log(self, at: float) -> float:
        """A time of the provider's as this machine would have written it."""
        return self.here - (self.provider - at)
