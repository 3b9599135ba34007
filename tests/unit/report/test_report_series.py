"""What a plot shows is what was measured: thinned without losing an extreme, broken where there was no number."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.answers import Gpu, Gpus
from harness.log.grammar import DPO, SFT, Step
from harness.log.summary import LogSummary, TrainerLog
from harness.report import charts, numbers, series
from harness.report.drawing import Scale, apart, hours, ticks
from harness.report.model import Along, Curve, Line
from tests.support.reports import steps

POINTS = st.lists(st.floats(-1e99, 1e99) | st.none(), min_size=1, max_size=400).map(
    lambda ys: [(float(x), y) for x, y in enumerate(ys)]
)


@given(POINTS, st.integers(4, 60))
def test_thinning_keeps_the_ends_the_extremes_and_every_kind_of_trouble(
    points: list[tuple[float, float | None]], most: int
) -> None:
    kept = series.thin(points, most)
    assert set(kept) <= set(points)
    assert list(kept) == sorted(kept, key=lambda point: point[0])
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    known = [y for _, y in points if y is not None]
    if known:
        told = [y for _, y in kept if y is not None]
        assert (min(told), max(told)) == (min(known), max(known))
    assert (None in {y for _, y in kept}) == (None in {y for _, y in points})
    assert len(kept) <= max(len(points), 0) if len(points) <= most else len(kept) <= 1.5 * most + 5


@given(st.integers(0, 500), st.integers(2, 50))
def test_even_choices_hold_both_ends(count: int, most: int) -> None:
    chosen = series.evenly(count, most)
    assert len(chosen) == min(count, most)
    if count:
        assert (chosen[0], chosen[-1]) == (0, count - 1)
    assert all(before < after for before, after in pairwise(chosen))


@given(st.floats(-1e99, 1e99), st.floats(-1e99, 1e99), st.integers(3, 6))
def test_ticks_are_within_their_bounds_and_in_order(one: float, other: float, most: int) -> None:
    low, high = apart(min(one, other), max(one, other))
    found = ticks(low, high, most)
    assert len(found) <= most + 2
    assert all(before < after for before, after in pairwise(found))
    slack = (high - low) * 1e-6
    assert all(low - slack <= tick <= high + slack for tick in found)


@given(st.floats(0, 4e9), st.floats(1e-3, 1e9))
def test_hours_are_within_their_bounds_and_few(start: float, span: float) -> None:
    found = hours(Scale(start, start + span, 0, 100), 4)
    assert len(found) <= 6
    assert all(start - 1e-6 <= at <= start + span + 1e-6 for at, _ in found)


STRANGE = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, 5e-324, 1.7e308, -1.7e308, 0.0])


@given(st.lists(st.tuples(st.integers(0, 10**12), STRANGE, STRANGE, STRANGE), max_size=60))
def test_any_number_that_a_log_may_state_is_drawn_or_said_to_be_none(
    told: list[tuple[int, float, float, float]],
) -> None:
    logged = tuple(Step(SFT, number, 10**12, loss, lr, took) for number, loss, lr, took in told)
    for curve in series.of_log((SFT, DPO), LogSummary(trainers={SFT: TrainerLog(logged)}), ""):
        if not curve.lines:
            assert curve.missing
            continue
        drawn = charts.lines(curve, "x") + charts.told(curve) + str(charts.rows(curve))
        assert not re.search(r"\b(nan|inf)\b", drawn)


def test_a_loss_that_was_no_number_breaks_the_line_and_is_marked() -> None:
    losses = [3.0, 2.0, math.nan, math.inf, 1.0, 0.5]
    logged = tuple(Step(SFT, number + 1, 6, loss, 1e-4, 4.4) for number, loss in enumerate(losses))
    loss, rate, *_ = series.of_log((SFT, DPO), LogSummary(trainers={SFT: TrainerLog(logged)}), "")
    drawn = charts.lines(loss, "x")
    assert drawn.count("<polyline") == 2
    assert drawn.count('class="bad"') == 2
    assert charts.told(loss) == (
        "3 nats at step 1, 0.5 nats at step 6; lowest 0.5 nats at step 6, highest 3 nats at step 1; no number at step 3"
    )
    assert ("step 3", "no number") in charts.rows(loss)
    assert 'class="bad"' not in charts.lines(rate, "x")


def test_a_curve_of_nothing_but_trouble_is_said_to_be() -> None:
    curve = Curve("SFT loss", "nats", Along.STEP, (Line("sft", ((1.0, None), (9.0, None))),))
    assert charts.told(curve) == "no number at all, from step 1 to step 9"
    assert "<polyline" not in charts.lines(curve, "x")


def test_each_trainer_has_its_plots_and_the_one_that_has_not_begun_says_so() -> None:
    log = LogSummary(trainers={SFT: TrainerLog(steps(SFT, 330, 2.4, 0.6))})
    told = {curve.title: (len(curve.lines), curve.missing) for curve in series.of_log((SFT, DPO), log, "")}
    assert told["SFT learning rate"] == (1, "")
    assert told["DPO loss"] == (0, "no step of DPO is in the log")
    assert {missing for _, missing in ((c.lines, c.missing) for c in series.of_log((SFT, DPO), None, "no log"))} == {
        "no log"
    }


def _gpu(index: int, use: float | None, memory: float | None) -> Gpu:
    return Gpu(index, "H100", "570", 81920.0, memory, use)


def test_gpus_are_told_by_their_mean_and_by_the_one_that_idles() -> None:
    looks = [
        (0.0, Gpus(True, (_gpu(0, 100.0, 1024.0), _gpu(1, 0.0, 2048.0)))),
        (120.0, Gpus(True, (_gpu(0, None, None), _gpu(1, None, None)))),
        (240.0, Gpus(False, ())),
    ]
    use, memory = series.of_gpus(looks, "")
    assert [(line.name, line.points) for line in use.lines] == [
        ("mean of all GPUs", ((0.0, 50.0),)),
        ("least used GPU", ((0.0, 0.0),)),
    ]
    assert [line.points for line in memory.lines] == [((0.0, 2.0),), ((0.0, 80.0),)]
    (alone, _) = series.of_gpus([(0.0, Gpus(True, (_gpu(0, 90.0, 5.0),)))], "")
    assert [line.name for line in alone.lines] == ["mean of all GPUs"]
    assert series.of_gpus([], "nobody looked")[0].missing == "nobody looked"
    assert series.of_gpus([(0.0, Gpus(False, ()))], "")[1].missing == "the looks at the box told nothing of its GPUs"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (numbers.usd(15.950821917808218), "$15.95"),
        (numbers.usd(1234.5), "$1,234.50"),
        (numbers.usd(0.0), "$0.00"),
        (numbers.usd(0.0044), "<$0.01"),
        (numbers.usd(-2.5), "-$2.50"),
        (numbers.usd(None), ""),
        (numbers.per_hour(15.950821917808218), "$15.95/h"),
        (numbers.size(8_098_524_992), "7.54 GiB"),
        (numbers.size(181_536), "177.28 KiB"),
        (numbers.size(0), "0 B"),
        (numbers.size(5e15), "4547.47 TiB"),
        (numbers.exactly(8_098_524_992), "8,098,524,992 bytes"),
        (numbers.rate(84e6), "80.11 MiB/s"),
        (numbers.duration(None), ""),
        (numbers.duration(0.0), "0.0 s"),
        (numbers.duration(0.01), "<0.1 s"),
        (numbers.duration(2400), "40 min"),
        (numbers.duration(7200), "2 h"),
        (numbers.duration(725), "12 min 05 s"),
        (numbers.clock(1_800_000_000), "08:00"),
        (numbers.day(1_800_000_000), "15 Jan 2027"),
        (numbers.moment(1_800_000_000), "15 Jan 2027, 08:00 UTC"),
        (numbers.share(0.5123), "51.2%"),
        (numbers.figure(5.56496), "5.565"),
        (numbers.figure(330), "330"),
        (numbers.figure(2.5e-5), "2.5e-05"),
        (numbers.figure(math.nan), "no number"),
        (numbers.figure(None), "no number"),
    ],
)
def test_numbers_are_written_for_people(said: str, words: str) -> None:
    assert said == words
