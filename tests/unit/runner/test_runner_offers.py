"""Offers that may be rented: at a price that somebody may ask, and no dearer than the plan that was agreed to."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from harness.core.ids import OfferId
from harness.core.ports import Offer
from harness.ledger.events import PlanAgreed
from harness.runner import renting
from tests.support.facts import sound_job
from tests.support.fake_clock import FakeClock
from tests.support.job_histories import Log
from tests.support.scripted_world import Market, offer

SHOWN = replace(offer(501), usd_per_gb_up=0.01, usd_per_gb_down=0.01, disk_usd_per_hour=0.1)


def agreed(*shown: dict[str, Any]) -> PlanAgreed:
    return PlanAgreed("yes", tuple(shown), 30.0, 60.0)


@pytest.mark.parametrize(
    ("changes", "covered"),
    [
        ({}, True),
        ({"id": OfferId(502)}, False),
        ({"machine_id": 13}, False),
        ({"gpu_name": "H100 PCIE"}, False),
        ({"num_gpus": 4}, False),
        ({"usd_per_hour": 15.8}, True),
        ({"usd_per_hour": 15.91}, False),
        ({"usd_per_gb_up": 0.0}, True),
        ({"usd_per_gb_up": 0.02}, False),
        ({"usd_per_gb_down": 0.0}, True),
        ({"usd_per_gb_down": 0.02}, False),
        ({"disk_usd_per_hour": 0.05}, True),
        ({"disk_usd_per_hour": 0.2}, False),
        ({"disk_usd_per_hour": None}, False),
        ({"reliability": 0.5, "inet_up_mbps": 1.0, "duration_s": 1.0, "place": "elsewhere"}, True),
    ],
)
def test_a_plan_covers_what_it_showed_and_nothing_dearer(changes: dict[str, Any], covered: bool) -> None:
    now = replace(SHOWN, **changes)
    assert renting.covers(agreed(asdict(SHOWN)), now) is covered
    assert renting.covers(agreed(asdict(offer(777)), asdict(SHOWN)), now) is covered
    assert not renting.covers(None, now)
    assert not renting.covers(agreed(), now)


def test_a_price_that_was_not_told_may_not_come_up() -> None:
    silent = replace(SHOWN, disk_usd_per_hour=None)
    assert renting.covers(agreed(asdict(silent)), silent)
    assert not renting.covers(agreed(asdict(silent)), SHOWN)


@pytest.mark.parametrize(
    "name", ["id", "machine_id", "gpu_name", "num_gpus", "usd_per_hour", "usd_per_gb_up", "disk_usd_per_hour"]
)
def test_an_agreement_that_lacks_a_field_covers_nothing(name: str) -> None:
    told = {field: value for field, value in asdict(SHOWN).items() if field != name}
    assert not renting.covers(agreed(told), SHOWN)
    assert not renting.covers(agreed(told), replace(SHOWN, disk_usd_per_hour=None))


@pytest.mark.parametrize(
    ("after_s", "holds"), [(0, True), (3600, True), (3600.1, False), (-3600, True), (-3600.1, False)]
)
def test_an_agreement_holds_for_an_hour_by_either_clock(after_s: float, holds: bool) -> None:
    log = Log()
    assert renting.standing(log.history, log.at) is None
    log.add(agreed(asdict(SHOWN)))
    assert (renting.standing(log.history, log.at + after_s) is not None) is holds


SANE = [
    ({}, True),
    ({"usd_per_hour": 0.08}, True),
    ({"usd_per_hour": 0.079}, False),
    ({"usd_per_hour": 0.0}, False),
    ({"usd_per_hour": -15.9}, False),
    *[({field: 0.0}, True) for field in ("usd_per_gb_up", "usd_per_gb_down")],
    *[({field: 0.05}, True) for field in ("usd_per_gb_up", "usd_per_gb_down")],
    *[({field: 0.051}, False) for field in ("usd_per_gb_up", "usd_per_gb_down")],
    *[({field: -0.001}, False) for field in ("usd_per_gb_up", "usd_per_gb_down")],
]


@pytest.mark.parametrize(("changes", "sane"), SANE)
def test_no_budget_rests_on_a_price_that_nobody_asks(changes: dict[str, Any], sane: bool) -> None:
    one: Offer = replace(offer(501), **changes)
    job = sound_job(machine={"max_usd_per_gb": 0.05})
    market = Market(FakeClock(), offers=[one])
    assert (renting.on_offer(job, market, None) == (one,)) is sane
    own = job.model_copy(update={"provider": job.provider.model_copy(update={"kind": "ssh"})})
    assert renting.on_offer(own, market, None) == (one,)
