"""Numbers as people write them, the same in every form of the report. Pure.

Sizes are in powers of 1024 (``7.54 GiB``), times of the day in UTC without seconds (``14:03``), money in USD.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

from harness.core.text import human_bytes, human_seconds

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def usd(money: float | None) -> str:
    """Dollars with cents: ``$0.33``, ``<$0.01``; empty for None."""
    if money is None:
        return ""
    if 0 < money < 0.005:
        return "<$0.01"
    return f"-${-money:,.2f}" if money < 0 else f"${money:,.2f}"


def per_hour(money: float) -> str:
    """Price of an hour: ``$15.95/h``."""
    return f"{usd(money)}/h"


def size(count: float) -> str:
    """Bytes in powers of 1024: ``7.54 GiB``."""
    return human_bytes(count, 1024, _UNITS)


def exactly(count: int) -> str:
    """Bytes to the last one: ``8,098,524,992 bytes``."""
    return f"{count:,} bytes"


def rate(bytes_per_s: float) -> str:
    """Bytes a second: ``80.12 MiB/s``."""
    return f"{size(bytes_per_s)}/s"


def duration(seconds: float | None) -> str:
    """A span of time: ``12 min 05 s``, ``40 min``; empty for None."""
    if seconds is None:
        return ""
    return "<0.1 s" if 0 < seconds < 0.05 else human_seconds(seconds).removesuffix(" 00 s").removesuffix(" 00 min")


def in_calendar(at: float) -> float:
    """A time in epoch seconds; what no calendar holds is put at its end."""
    return min(max(at, 0.0), 253402300799.0)


def clock(at: float) -> str:
    """Time of the day in UTC: ``14:03``."""
    return _utc(at).strftime("%H:%M")


def day(at: float) -> str:
    """The date in UTC: ``28 Nov 2026``."""
    when = _utc(at)
    return f"{when.day} {_MONTHS[when.month - 1]} {when.year}"


def moment(at: float) -> str:
    """Date and time of the day: ``28 Nov 2026, 14:03 UTC``."""
    return f"{day(at)}, {clock(at)} UTC"


def share(part: float) -> str:
    """A share of 1 in per cent: ``51.2%``."""
    return f"{part:.1%}"


def figure(number: float | None) -> str:
    """A measured number with four digits that count: ``5.565``, ``2.5e-05``; "no number" for None."""
    if number is None or not math.isfinite(number):
        return "no number"
    whole = number == round(number) and abs(number) < 1e7
    return f"{round(number):,}" if whole else f"{number:.4g}"


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(in_calendar(at), UTC)
