"""A curve in one line of a terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

_BLOCKS = "▁▂▃▄▅▆▇█"
_PLAIN = "_.-~=+*#"
_ODD = "!"
_MOST = 1e30
"""A value beyond it, or none at all, is told as odd: no loss of a training that lives comes near it."""


def sparkline(values: Sequence[float], width: int, *, unicode: bool = True) -> str:
    """The values as blocks of eight heights, the oldest first; several share a block when they are more than ``width``.

    A block without a sane value is ``!``.
    """
    blocks, levels = min(width, len(values)), _BLOCKS if unicode else _PLAIN
    means = [_mean(values[at * len(values) // blocks : (at + 1) * len(values) // blocks]) for at in range(blocks)]
    known = [mean for mean in means if mean is not None]
    low, span = (min(known), max(known) - min(known)) if known else (0.0, 0.0)
    heights = ((mean - low) / span if mean is not None and span > 0 else 0.0 for mean in means)
    return "".join(
        _ODD if mean is None else levels[min(len(levels) - 1, int(height * len(levels)))]
        for mean, height in zip(means, heights, strict=True)
    )


def _mean(values: Sequence[float]) -> float | None:
    sane = [one for one in values if abs(one) <= _MOST]  # nan is not
    return fmean(sane) if sane else None
