"""The forecast of a rental: it is the estimate at the offer's prices, part by part, and says where it has each from."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from harness.job import estimate
from harness.job.forecast import Forecast, Part, Taken, forecast
from harness.job.model import Job
from tests.support.job_histories import job
from tests.support.scripted_world import offer

EVALUATED = {"evaluate": ["python3", "judge.py"]}
OFFER = dataclasses.replace(offer(), usd_per_gb_up=0.02, usd_per_gb_down=0.01)


def _part(found: Forecast, name: str) -> Part:
    return next(part for part in found.parts if part.name == name)


@pytest.mark.parametrize("of", [job(), job(package=EVALUATED), job(training={"sft_steps": 1, "dpo_steps": 1})])
@pytest.mark.parametrize("done", [{}, {"sft": 1}])
def test_by_the_profile_it_is_the_estimate(of: Job, done: dict[str, int]) -> None:
    found = forecast(of, OFFER, done=done)
    assert found.seconds == pytest.approx(estimate.timeline(of, done).total)
    assert {part.source for part in found.parts if part.name not in {"base download", "traffic"}} == {"profile"}


def test_at_the_price_caps_it_costs_what_the_estimate_says() -> None:
    of = job()
    dearest = dataclasses.replace(
        offer(), usd_per_hour=of.machine.max_usd_per_hour, usd_per_gb_up=0.02, usd_per_gb_down=0.02
    )
    assert forecast(of, dearest).usd == pytest.approx(estimate.cost(of).total)


def test_every_part_is_told_apart() -> None:
    found = forecast(job(package=EVALUATED), OFFER)
    assert [part.name for part in found.parts] == [
        "boot and install",
        "base download",
        "loading",
        "training",
        "export",
        "download home",
        "evaluation",
        "traffic",
    ]
    assert _part(found, "base download").seconds == pytest.approx(15.231e9 * 8 / 6e9, rel=1e-3)
    assert _part(found, "base download").source == "offer, 6,000 Mb/s"
    assert _part(found, "export").seconds == 300
    assert _part(found, "loading").seconds == 180
    assert _part(found, "training").seconds == pytest.approx(330 * 4.4 + 80 * 6)
    assert _part(found, "traffic").usd == pytest.approx(15.231 * 0.01 + (8.093 + 5 * 1.938) * 0.02, abs=1e-3)
    assert _part(found, "training").usd == pytest.approx(_part(found, "training").seconds * 15.9 / 3600)


def test_an_evaluation_that_nobody_asked_for_is_no_part() -> None:
    assert "evaluation" not in [part.name for part in forecast(job(), OFFER).parts]


@pytest.mark.parametrize(
    ("timed", "names", "seconds"),
    [
        ("setup", ("boot and install", "base download"), 100.0),
        ("load", ("loading",), 50.0),
        ("steps", ("training",), 500.0),
        ("export", ("export",), 22.0),
        ("closing", ("giving back",), 11.0),
        ("download", ("download home",), 33.0),
        ("evaluate", ("evaluation",), 44.0),
    ],
)
def test_what_is_known_takes_the_place_of_the_profile(timed: str, names: tuple[str, ...], seconds: float) -> None:
    of = job(package=EVALUATED)
    found = forecast(of, OFFER, {timed: Taken(seconds, "own history (3 jobs)")})
    assert sum(_part(found, name).seconds for name in names) == pytest.approx(seconds)
    sources = {part.name: part.source for part in found.parts}
    assert all(sources[name] == "own history (3 jobs)" for name in names if name != "base download")
    others = {name: source for name, source in sources.items() if name not in {*names, "base download", "traffic"}}
    assert set(others.values()) == {"profile"}


def test_what_is_done_already_is_left_out_of_what_is_known() -> None:
    known = {"steps": Taken(2 * (330 * 4.4 + 80 * 6), "own history (1 job)")}  # twice what is planned
    saved = forecast(job(), OFFER, known).seconds - forecast(job(), OFFER, known, {"sft": 300}).seconds
    assert saved == pytest.approx(2 * 300 * 4.4)


@pytest.mark.parametrize("mbps", [0.0, 1.0, 200.0])
def test_a_line_of_any_speed_leaves_a_forecast(mbps: float) -> None:
    found = forecast(job(), dataclasses.replace(offer(), inet_down_mbps=mbps))
    assert all(part.seconds >= 0 for part in found.parts)
    assert found.seconds >= estimate.timeline(job()).total - 1e-6


def test_a_download_slower_than_the_whole_setup_counts_in_full() -> None:
    found: Any = forecast(job(), dataclasses.replace(offer(), inet_down_mbps=100.0))
    assert _part(found, "base download").seconds == pytest.approx(1218, rel=1e-2)
