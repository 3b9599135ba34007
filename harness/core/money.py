"""Money of a span of time: the one place where seconds and a price by the hour become USD. Pure."""

from __future__ import annotations

HOUR_S = 3600.0


def usd(seconds: float, usd_per_hour: float) -> float:
    """USD for ``seconds`` at ``usd_per_hour``."""
    return seconds * usd_per_hour / HOUR_S


def per_gpu(usd_per_hour: float, gpus: int) -> float:
    """USD an hour for each of an offer's GPUs."""
    return usd_per_hour / max(1, gpus)


def seconds_for(amount: float, usd_per_hour: float) -> float:
    """Seconds that ``amount`` USD pay for at ``usd_per_hour``, which is not 0."""
    return amount / usd_per_hour * HOUR_S
