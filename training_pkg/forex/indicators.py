"""A trader's view of one fixing, computed from past fixings only; and the rate's way after it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

HISTORY = 61
"""Fixings an indicator looks back on, itself included."""

HORIZON = 5
"""Fixings after which the direction is judged."""

TRADE_LIFE = 10
"""Fixings after which an open trade is closed."""

_YEAR = 256
"""Fixings in a year (the bank quotes on TARGET working days)."""

Rates = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Indicators:
    """The state of a pair at one fixing. Changes, volatility and range position in percent."""

    change_1: float
    change_5: float
    change_20: float
    change_60: float
    volatility: float
    stretch: float
    rsi: float
    range_position: float

    @property
    def daily_volatility(self) -> float:
        """The expected size of one day's change, in percent."""
        return self.volatility / float(np.sqrt(_YEAR))


def at(rates: Rates, index: int) -> Indicators:
    """The indicators at ``rates[index]``; nothing after it is read. Needs ``index >= HISTORY - 1``."""
    past = rates[index - HISTORY + 1 : index + 1]
    now = past[-1]
    steps = np.diff(np.log(past))
    gains, losses = np.clip(steps[-14:], 0, None).sum(), np.clip(-steps[-14:], 0, None).sum()
    low, high = past.min(), past.max()
    spread = past[-20:].std()

    def change(days: int) -> float:
        return float((now / past[-1 - days] - 1) * 100)

    return Indicators(
        change_1=change(1),
        change_5=change(5),
        change_20=change(20),
        change_60=change(60),
        volatility=float(steps[-20:].std() * np.sqrt(_YEAR) * 100),
        stretch=float((now - past[-20:].mean()) / spread) if spread > 0 else 0.0,
        rsi=float(100 * gains / (gains + losses)) if gains + losses > 0 else 50.0,
        range_position=float(100 * (now - low) / (high - low)) if high > low else 50.0,
    )


def rose(rates: Rates, index: int) -> bool | None:
    """True when the rate stood higher HORIZON fixings later; None when it stood exactly where it was."""
    now, later = rates[index], rates[index + HORIZON]
    return None if later == now else bool(later > now)


def target_first(rates: Rates, index: int, *, long: bool, stop: float, target: float) -> bool:
    """True when a trade opened at ``rates[index]`` met its target before its stop and within TRADE_LIFE fixings.

    ``stop`` and ``target`` are distances in percent of the entry rate.
    """
    moves = (rates[index + 1 : index + 1 + TRADE_LIFE] / rates[index] - 1) * 100 * (1 if long else -1)
    won, lost = np.flatnonzero(moves >= target), np.flatnonzero(moves <= -stop)
    return bool(len(won) and (not len(lost) or won[0] < lost[0]))
