"""Money of time and of traffic: the one place where an amount and a price become USD, or back. Pure."""

from __future__ import annotations

HOUR_S = 3600.0
GB = 1e9
"""Bytes of a GB, as disks and traffic are sold."""
_HOURS_PER_MONTH = 730.0


OWN = "your own machine, nothing is billed"


def as_paid(told: str, *, embedded: bool, own: bool = False) -> str:
    """Words about money; what nobody pays is called so, and of a machine of one's own there is no price to tell."""
    if own:
        return OWN
    return f"{told} (embedded: no real money)" if embedded else told


def usd(seconds: float, usd_per_hour: float) -> float:
    """USD for ``seconds`` at ``usd_per_hour``."""
    return seconds * usd_per_hour / HOUR_S


def for_traffic(size: float, usd_per_gb: float) -> float:
    """USD for ``size`` bytes at ``usd_per_gb``, a GB being a thousand million."""
    return size * usd_per_gb / GB


def storage_per_hour(gb: float, usd_per_gb_month: float) -> float:
    """USD an hour for ``gb`` at a price by the gigabyte and month; a month is 8760 / 12 hours."""
    return gb * usd_per_gb_month / _HOURS_PER_MONTH


def per_gpu(usd_per_hour: float, gpus: int) -> float:
    """USD an hour for each of an offer's GPUs."""
    return usd_per_hour / max(1, gpus)


def per_hour(usd_per_second: float) -> float:
    """USD an hour of a price by the second."""
    return usd_per_second * HOUR_S


def seconds_for(money: float, usd_per_hour: float) -> float:
    """Seconds that ``money`` (USD) pays for at ``usd_per_hour``; without end for what costs nothing."""
    return money * HOUR_S / usd_per_hour if usd_per_hour > 0 else float("inf")


def within(usd: float, since: float | None, until: float, start: float) -> float:
    """Part of an amount, charged evenly from ``since`` to ``until``, that falls behind ``start``. Times in seconds.

    All of it where it is not told since when, and it was charged behind ``start`` at all.
    """
    if until <= start:
        return 0.0
    if since is None or since >= start:
        return usd
    return usd * (until - start) / (until - since)
