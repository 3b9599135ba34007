"""Examples put into words. Pure.

A prompt holds no date and no absolute rate: a pretrained model may remember what
EURUSD did in a given week. It names neither answer, so that no answer is in it.
"""

from __future__ import annotations

from .indicators import HORIZON, TRADE_LIFE, Indicators

UP, DOWN = "Direction: UP", "Direction: DOWN"
TAKE, SKIP = "Decision: TAKE", "Decision: SKIP"


def direction_prompt(pair: str, seen: Indicators) -> str:
    """The question where the rate will stand."""
    return (
        f"{pair}, daily fixing. {_state(seen)}\n"
        f"Where will {pair} stand {HORIZON} fixings from now, compared with today? End with a direction."
    )


def trade_prompt(pair: str, seen: Indicators, *, long: bool, stop: float, target: float) -> str:
    """The question whether a planned trade is worth its risk. ``stop`` and ``target`` in percent."""
    return (
        f"{pair}, daily fixing. {_state(seen)}\n"
        f"Plan: {'long' if long else 'short'} {pair}, stop at {stop:.2f}%, target at {target:.2f}%, "
        f"closed after {TRADE_LIFE} fixings. Is it worth its risk? End with a decision."
    )


def direction_completion(seen: Indicators, *, up: bool) -> str:
    """Reasoning and answer for the direction that was the true one (or, in a rejected turn, was not)."""
    return _answer(_arguments(seen, up=up), UP if up else DOWN)


def trade_completion(seen: Indicators, *, long: bool, take: bool) -> str:
    """Reasoning and answer for the decision that was the right one."""
    return _answer(_arguments(seen, up=long is take), TAKE if take else SKIP)


def _state(seen: Indicators) -> str:
    return (
        f"Change over 1, 5, 20, 60 fixings: {seen.change_1:+.2f}%, {seen.change_5:+.2f}%, {seen.change_20:+.2f}%, "
        f"{seen.change_60:+.2f}%. Yearly volatility {seen.volatility:.1f}%. Distance from the 20-fixing mean "
        f"{seen.stretch:+.2f} deviations. RSI {seen.rsi:.1f}. Place in the 60-fixing range {seen.range_position:.0f}%."
    )


def _arguments(seen: Indicators, *, up: bool) -> str:
    """The reasons for a rise and for a fall, ending with the side that the outcome decided."""
    for_rise: list[str] = []
    for_fall: list[str] = []
    (for_rise if seen.change_20 >= 0 else for_fall).append(f"the 20-fixing trend ({seen.change_20:+.2f}%)")
    (for_rise if seen.change_60 >= 0 else for_fall).append(f"the 60-fixing trend ({seen.change_60:+.2f}%)")
    (for_fall if seen.stretch >= 0 else for_rise).append(f"a return to the mean ({seen.stretch:+.2f})")
    (for_fall if seen.rsi >= 50 else for_rise).append(f"the RSI ({seen.rsi:.1f})")
    winners, losers = (for_rise, for_fall) if up else (for_fall, for_rise)
    side, other = ("a rise", "a fall") if up else ("a fall", "a rise")
    return f"For {side}: {_listed(winners)}. For {other}: {_listed(losers)}. I judge {side} likelier."


def _listed(reasons: list[str]) -> str:
    if len(reasons) < 2:
        return reasons[0] if reasons else "nothing but chance"
    return ", ".join(reasons[:-1]) + " and " + reasons[-1]


def _answer(reasoning: str, answer: str) -> str:
    return f"<think>\n{reasoning}\n</think>\n\n{answer}"
