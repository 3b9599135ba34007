"""Money of a span of time: the one place where seconds and a price by the hour become USD. Pure."""

from __future__ import annotations

HOUR_S = 3600.0


def usd(seconds: float, usd_per_hour: float) -> float:
    """USD for ``seconds`` at ``usd_per_hour``."""
    return seconds * usd_per_hour / HOUR_S
