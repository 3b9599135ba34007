"""Money of a span of time: the one place where seconds and a price by the hour become USD, or back. Pure."""

from __future__ import annotations

HOUR_S = 3600.0


def usd(seconds: float, usd_per_hour: float) -> float:
    """USD for ``seconds`` at ``usd_per_hour``."""
    return seconds * usd_per_hour / HOUR_S


def per_gpu(usd_per_hour: float, gpus: int) -> float:
    """USD an hour for each of an offer's GPUs."""
    return usd_per_hour / max(1, gpus)


def per_hour(usd_per_second: float) -> float:
    """USD an hour of a price by the second."""
    return usd_per_second * HOUR_S


def seconds_for(money: float, usd_per_hour: float) -> float:
    """Seconds that ``money`` (USD) pays for at ``usd_per_hour``; without end for what costs nothing."""
    return money * HOUR_S / usd_per_hour if usd_per_hour > 0 else float("inf")
