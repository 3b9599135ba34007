"""Builds the data set from the bank's rates: 51 pairs, three kinds of rows, labels by what happened next.

Every row's label is known before ``eval_from``; every evaluation row is dated on or after it.
The same file of rates and the same seed give the same bytes.
"""

from __future__ import annotations

import bisect
import json
import zlib
from pathlib import Path

import numpy as np

from . import indicators, rates, wording
from .durable import write_bytes
from .errors import DataDefect
from .rates import Series

FEATURE_FILE = "real_feature_examples.jsonl"
SCENARIO_FILE = "real_trade_scenarios.jsonl"
PREFERENCE_FILE = "real_dpo_pairs.jsonl"
EVAL_FEATURE_FILE = "eval_feature_examples.jsonl"
EVAL_SCENARIO_FILE = "eval_trade_scenarios.jsonl"
FILES = (FEATURE_FILE, SCENARIO_FILE, PREFERENCE_FILE, EVAL_FEATURE_FILE, EVAL_SCENARIO_FILE)

_TRAIN_ROWS, _EVAL_ROWS = (200, 100, 50), (20, 10)
"""Rows a pair and file: 51 x 200 = 10,200 and 51 x 100 = 5,100 for SFT, 51 x 50 = 2,550 for DPO."""

BUILT_BY = "exchange rates"
"""Value of ``built_by`` in every row: it says, wherever the row is copied to, that no person gave it."""

_STOP, _TARGET = 1.5, 2.0
"""A trade's stop and target, in days' volatilities."""

Row = dict[str, str]


def build(folder: Path, *, history: Path, eval_from: str, seed: int) -> None:
    """Write the five files into ``folder``; raises DataDefect when the rates do not reach."""
    dates, per_euro = rates.read_history(history)
    files: dict[str, list[Row]] = {name: [] for name in FILES}
    for pair in rates.PAIRS:
        series = rates.series(pair, dates, per_euro)
        cut = bisect.bisect_left(series.dates, eval_from)
        end = len(series.dates)
        chance = np.random.default_rng([seed, zlib.crc32(pair.encode())])
        # The outcome of a training row, TRADE_LIFE fixings later, lies before the first evaluation row.
        train = _drawn(series, range(indicators.HISTORY - 1, cut - indicators.TRADE_LIFE), _TRAIN_ROWS, chance)
        later = _drawn(series, range(cut, end - indicators.TRADE_LIFE), _EVAL_ROWS, chance)
        files[FEATURE_FILE] += [_feature(series, at) for at in train[0]]
        files[SCENARIO_FILE] += [_scenario(series, at, chance) for at in train[1]]
        files[PREFERENCE_FILE] += [_preference(series, at) for at in train[2]]
        files[EVAL_FEATURE_FILE] += [_feature(series, at) for at in later[0]]
        files[EVAL_SCENARIO_FILE] += [_scenario(series, at, chance) for at in later[1]]
    _refuse_repeats(files)
    for name, rows in files.items():
        write_bytes(folder / name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def _drawn(series: Series, among: range, counts: tuple[int, ...], chance: np.random.Generator) -> list[list[int]]:
    """Disjoint draws of fixings, one a count, each in the order of time; no fixing whose rate came back exactly."""
    usable = [at for at in among if indicators.rose(series.rates, at) is not None]
    if len(usable) < sum(counts):
        raise DataDefect(f"the rates hold {len(usable)} usable fixings of {series.pair}, {sum(counts)} are needed")
    picked = chance.choice(usable, size=sum(counts), replace=False)
    ends = np.cumsum(counts)
    return [sorted(int(at) for at in picked[end - count : end]) for count, end in zip(counts, ends, strict=True)]


def _feature(series: Series, at: int) -> Row:
    seen, up = indicators.at(series.rates, at), bool(indicators.rose(series.rates, at))
    return {
        "prompt": wording.direction_prompt(series.pair, seen),
        "completion": wording.direction_completion(seen, up=up),
        **_origin(series, at),
    }


def _scenario(series: Series, at: int, chance: np.random.Generator) -> Row:
    seen, long = indicators.at(series.rates, at), bool(chance.integers(2))
    stop, target = (round(scale * seen.daily_volatility, 2) for scale in (_STOP, _TARGET))
    take = indicators.target_first(series.rates, at, long=long, stop=stop, target=target)
    return {
        "prompt": wording.trade_prompt(series.pair, seen, long=long, stop=stop, target=target),
        "completion": wording.trade_completion(seen, long=long, take=take),
        **_origin(series, at),
    }


def _preference(series: Series, at: int) -> Row:
    seen, up = indicators.at(series.rates, at), bool(indicators.rose(series.rates, at))
    return {
        "prompt": wording.direction_prompt(series.pair, seen),
        "chosen": wording.direction_completion(seen, up=up),
        "rejected": wording.direction_completion(seen, up=not up),
        **_origin(series, at),
    }


def _origin(series: Series, at: int) -> Row:
    return {"pair": series.pair, "date": series.dates[at], "built_by": BUILT_BY}


def _refuse_repeats(files: dict[str, list[Row]]) -> None:
    """No prompt stands twice: with another label it would contradict, in an evaluation file it would leak."""
    seen: dict[str, str] = {}
    for name, rows in files.items():
        for row in rows:
            if (other := seen.setdefault(row["prompt"], name)) is not name:
                raise DataDefect(f"{name} repeats a prompt of {other}: {row['pair']} {row['date']}")
        if len({row["prompt"] for row in rows}) != len(rows):
            raise DataDefect(f"{name} holds a prompt twice")
