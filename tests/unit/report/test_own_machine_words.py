"""Of a machine of one's own nothing speaks of money, and every word about what stops and goes is true of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli import foot, plan_view
from harness.cli.status import money_words
from harness.core.errors import GateHeld
from harness.core.lifecycle import Stage
from harness.core.ports import InstanceStatus
from harness.gates import plan
from harness.job import estimate
from harness.job.model import Job
from harness.ledger import bills
from harness.ledger.events import DestroyIntended, InstanceStopped, Launched, Rented, RentIntended, StageEntered
from harness.ledger.outlook import outlook
from harness.report import build, html, markdown
from harness.report.ending import lines
from harness.runner import renting, stopping
from tests.support.context import Telling, make_world
from tests.support.job_histories import INSTANCE, LABEL, Log, job
from tests.support.scripted_world import offer

OWN: dict[str, Any] = {"kind": "ssh", "host": "box"}
THERE: dict[str, Any] = {"gpu_name": "H100", "num_gpus": 8, "usd_per_hour": 0.0, "machine_id": 5, "place": "here"}


FREE = dataclasses.replace(offer(501), usd_per_hour=0.0)


class OwnLog(Log):
    """The log of a job on a machine of one's own."""

    def __init__(self) -> None:
        super().__init__(job(provider=OWN))

    def rented(self) -> Log:
        self.stage(Stage.PREFLIGHT)
        self.add(StageEntered(stage=Stage.PROVISION))
        self.add(RentIntended(LABEL, THERE, owner=7))
        return self.add(Rented(INSTANCE, LABEL, THERE, usd_per_hour=0.0, owner=7))


def _launched() -> Log:
    return OwnLog().rented().add(Launched(("python3", "train.py"), "launch"))


LIVES: dict[str, Callable[[], Log]] = {
    "claimed": lambda: OwnLog().rented(),
    "trains": _launched,
    "home": lambda: OwnLog().verified(),
    "asked to go": lambda: OwnLog().rented().add(DestroyIntended(INSTANCE, None)),
    "over": lambda: OwnLog().closed(),
}


@pytest.mark.parametrize("life", LIVES)
def test_no_word_about_a_job_on_it_is_about_money(life: str) -> None:
    log = LIVES[life]()
    history, report = log.history, build(log.history, now=log.at, charges=None)
    found = bills.bills(history)
    money = outlook(history, log.at)
    told = [
        found.brief,
        bills.sentence(found),
        *foot.of(history, None).lines(3600),
        *money_words(money.spent, money.projected, money.cap, over=history.closed),
        *lines(report, failed=False),
        *markdown.render(report).splitlines(),
        html.render(report),
        estimate.stakes(history.job, history.rental.usd_per_hour if history.rental else None),
    ]
    about_money = [line[max(0, line.index("$") - 60) : line.index("$") + 20] for line in told if "$" in line]
    assert not about_money
    assert "nothing is billed" in " ".join(told)


def test_the_plan_of_it_is_time_and_no_money() -> None:
    own = job(provider=OWN)
    shown = renting.plan(own, [FREE], (), None)
    told = [*plan_view.lines(shown, 100), plan_view.in_short(shown), estimate.in_words(own)]
    assert not [line for line in told if "$" in line or "USD" in line]
    assert shown.forecasts[0].usd == estimate.cost(own).total == 0.0
    assert shown.forecasts[0].seconds > 0


@pytest.mark.parametrize(
    ("told", "left_out"),
    [
        ({}, set()),
        ({"provider": OWN}, {"offer_meets_spec", "price_within_cap"}),
        (
            {"provider": OWN, "training": {"accelerator": "cpu"}},
            {"offer_meets_spec", "price_within_cap", "gpus_match_offer", "driver_supports_cuda"},
        ),
        ({"training": {"accelerator": "cpu"}}, set()),
    ],
)
def test_the_plan_leaves_out_what_only_a_market_tells(told: dict[str, Any], left_out: set[str]) -> None:
    of = job(**told)
    assert plan.left_out("provision", of).keys() == left_out
    money = {"cost_within_budget", "image_fits_package"} if not of.is_billed else set()
    assert money <= plan.left_out("preflight", of).keys()
    assert ("billing_stopped" in plan.left_out("teardown", of)) is not of.is_billed
    assert "instance_is_gone" in plan.declared("teardown", of)
    assert ("gpus_are_working" in plan.left_out("training", of)) is ("gpus_match_offer" in left_out)


def test_an_offer_without_a_price_is_one_only_where_nothing_is_billed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, provider, fits in (("own", OWN, True), ("market", {}, False)):
        world = make_world(tmp_path / name, monkeypatch, fast=True, provider=provider)
        world.market.offers = [FREE]
        assert bool(renting.on_offer(world.job, world.market, None)) is fits
    world.market.offers = []
    own = make_world(tmp_path / "none", monkeypatch, fast=True, provider=OWN)
    own.market.offers = []
    with pytest.raises(GateHeld, match="your machine has no 8x H100"):
        renting.fitting(own.job, own.market, None)


def test_at_a_limit_nothing_is_stopped_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, provider=OWN)
    world.market.offers = [FREE]
    world.run(until=Stage.PROVISION)
    over, limit, said = "the training takes longer than 5 s", "limits.training_deadline_s", list[str]()
    with pytest.raises(GateHeld, match="takes longer") as held:
        stopping.stop_over(world.context(), Telling(said), over, limit)
    assert "nothing on it was stopped" in held.value.remedy
    assert "nothing is stopped on your own machine" in " ".join(said)
    assert [one.status for one in world.market.rented.values()] == [InstanceStatus.RUNNING]
    assert InstanceStopped not in world.kinds()


def test_no_job_elsewhere_is_taken_for_one_of_ones_own() -> None:
    assert job().is_billed
    assert job(provider={"kind": "emulated"}).is_billed
    of: Job = job(provider=OWN)
    assert not of.is_billed
    assert of.most_usd_per_hour == 0.0
