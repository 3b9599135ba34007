"""The data set built from the bank's rates: its counts, its order in time, its labels, nothing given away."""

from __future__ import annotations

import collections
import hashlib
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forex import builder, config, dataset, indicators, judging, rates, rows
from forex.errors import DataDefect

SFT_FILES = (builder.FEATURE_FILE, builder.SCENARIO_FILE)


@pytest.fixture(scope="module")
def built(built_data: Path) -> dict[str, list[dict[str, str]]]:
    return {
        name: [json.loads(line) for line in (built_data / name).read_text(encoding="utf-8").splitlines()]
        for name in builder.FILES
    }


@pytest.fixture(scope="module")
def series() -> dict[str, rates.Series]:
    dates, per_euro = rates.read_history(rates.default_file())
    return {pair: rates.series(pair, dates, per_euro) for pair in rates.PAIRS}


def test_counts_are_those_of_the_log_line(built: dict[str, list[dict[str, str]]]) -> None:
    assert [len(built[name]) for name in builder.FILES[:3]] == [10_200, 5_100, 2_550]
    assert collections.Counter(row["pair"] for row in built[builder.FEATURE_FILE]) == dict.fromkeys(rates.PAIRS, 200)


def test_pairs_are_51_different_ones_written_as_the_market_writes_them() -> None:
    assert len(set(rates.PAIRS)) == 51
    assert all(re.fullmatch(r"[A-Z]{6}", pair) and pair[:3] != pair[3:] for pair in rates.PAIRS)
    assert {"EURUSD", "GBPUSD", "USDJPY", "AUDNZD", "CHFJPY", "USDCAD"} <= set(rates.PAIRS)
    assert not {pair[3:] + pair[:3] for pair in rates.PAIRS} & set(rates.PAIRS)


def test_labels_are_what_the_rate_did_next(
    built: dict[str, list[dict[str, str]]], series: dict[str, rates.Series]
) -> None:
    for row in built[builder.FEATURE_FILE][::37] + built[builder.EVAL_FEATURE_FILE][::7]:
        own = series[row["pair"]]
        at = own.dates.index(row["date"])
        up = own.rates[at + indicators.HORIZON] > own.rates[at]
        assert row["completion"].endswith("Direction: UP" if up else "Direction: DOWN")
    for row in built[builder.PREFERENCE_FILE][::17]:
        own = series[row["pair"]]
        at = own.dates.index(row["date"])
        up = own.rates[at + indicators.HORIZON] > own.rates[at]
        assert row["chosen"].endswith("Direction: UP" if up else "Direction: DOWN")
        assert row["rejected"].endswith("Direction: DOWN" if up else "Direction: UP")


def test_trades_are_judged_by_which_barrier_is_met_first() -> None:
    path = np.array([100.0, 100.5, 98.0, 103.0, *[103.0] * 10])
    assert indicators.target_first(path, 0, long=True, stop=3.0, target=2.5)
    assert not indicators.target_first(path, 0, long=True, stop=1.5, target=2.5)
    assert indicators.target_first(path, 0, long=False, stop=2.5, target=1.5)
    assert not indicators.target_first(path, 0, long=True, stop=9.0, target=9.0)


def test_every_outcome_is_known_before_the_first_evaluation_row(
    built: dict[str, list[dict[str, str]]], series: dict[str, rates.Series]
) -> None:
    first = min(row["date"] for name in (builder.EVAL_FEATURE_FILE, builder.EVAL_SCENARIO_FILE) for row in built[name])
    places = {pair: {date: at for at, date in enumerate(own.dates)} for pair, own in series.items()}
    for name in builder.FILES[:3]:
        for row in built[name]:
            closed = places[row["pair"]][row["date"]] + indicators.TRADE_LIFE
            assert series[row["pair"]].dates[closed] < first


def test_indicators_read_nothing_after_their_fixing(series: dict[str, rates.Series]) -> None:
    values = series["EURUSD"].rates.copy()
    before = indicators.at(values, 500)
    values[501:] = math.nan
    assert indicators.at(values, 500) == before


def test_prompts_are_unique_and_hold_neither_answer_nor_date_nor_rate(
    built: dict[str, list[dict[str, str]]], series: dict[str, rates.Series]
) -> None:
    everything = [row for name in builder.FILES for row in built[name]]
    assert len({row["prompt"] for row in everything}) == len(everything)
    for row in everything:
        assert not re.search(r"UP|DOWN|TAKE|SKIP|\d{4}-\d{2}|nan|inf|%[sdfr]|[{}]", row["prompt"])
    at_random = built[builder.FEATURE_FILE][4321]
    own = series[at_random["pair"]]
    assert f"{own.rates[own.dates.index(at_random['date'])]:.4f}" not in at_random["prompt"]


def test_both_answers_are_common_enough_to_learn(built: dict[str, list[dict[str, str]]]) -> None:
    for name, low in ((builder.FEATURE_FILE, 0.45), (builder.SCENARIO_FILE, 0.3)):
        counted = collections.Counter(row["completion"].rpartition("\n")[2] for row in built[name])
        assert len(counted) == 2
        assert min(counted.values()) / sum(counted.values()) > low


def test_the_package_finds_no_leak_in_its_own_data(built_data: Path) -> None:
    learned: list[rows.Example | rows.Preference] = [
        *rows.read_examples(built_data / builder.FEATURE_FILE).rows,
        *rows.read_examples(built_data / builder.SCENARIO_FILE).rows,
        *rows.read_preferences(built_data / builder.PREFERENCE_FILE).rows,
    ]
    for name in (builder.EVAL_FEATURE_FILE, builder.EVAL_SCENARIO_FILE):
        assert judging.leaks(learned, rows.read_examples(built_data / name).rows) == []


def digests(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in builder.FILES}


def test_another_seed_gives_other_bytes(built_data: Path, tmp_path: Path) -> None:
    builder.build(tmp_path, history=rates.default_file(), eval_from="2025-01-01", seed=18)
    assert not set(digests(tmp_path).values()) & set(digests(built_data).values())


def test_rates_that_end_too_early_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataDefect, match=r"usable fixings of \w{6}, 30 are needed"):
        builder.build(tmp_path, history=rates.default_file(), eval_from="2099-01-01", seed=17)


def test_a_repeated_prompt_is_refused() -> None:
    row: dict[str, Any] = {"prompt": "p", "completion": "c", "pair": "EURUSD", "date": "2001-01-01"}
    with pytest.raises(DataDefect, match="repeats a prompt"):
        builder._refuse_repeats({"train": [row], "eval": [row]})
    with pytest.raises(DataDefect, match="twice"):
        builder._refuse_repeats({"train": [row, row]})


def test_a_file_that_is_no_history_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rates.zip").write_bytes(b"PK")
    with pytest.raises(DataDefect, match="zipped history"):
        rates.read_history(tmp_path / "rates.zip")


def test_another_process_builds_the_same_bytes_and_needs_no_torch(built_data: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from forex import cli, config, dataset\n"
        "dataset.prepare(config.load(None, batch_size=32))\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(builder.__file__).parents[1])},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    proof, *data = done.stdout.decode().splitlines()
    assert proof.endswith("15300 SFT + 2550 DPO samples from YOUR data")
    assert [line.split(" sha256=")[0] for line in data] == [
        "DATA features rows=10200 built=10200",
        "DATA scenarios rows=5100 built=5100",
        "DATA pairs rows=2550 built=2550",
    ]
    assert digests(tmp_path / config.Data().folder) == digests(built_data)


def test_an_empty_folder_is_filled_and_an_empty_link_is_refused_with_a_remedy(
    built_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        builder, "build", lambda folder, **_: shutil.copytree(built_data, folder)
    )  # the same files, sooner
    (tmp_path / "data" / "forex_integrated").mkdir(parents=True)
    assert len(dataset.prepare(config.Config(32)).examples) == 15_300
    shutil.rmtree(tmp_path / "data" / "forex_integrated")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data" / "forex_integrated").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(
        DataDefect, match=r"forex_integrated is a link or a mount without files .*; put the files there"
    ):
        dataset.prepare(config.Config(32))
