"""Renting: nothing is asked for before a plan that shows it was agreed to, and the agreement holds for that alone."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import GateHeld, InstanceDead, OfferGone, Refused
from harness.core.ids import OfferId
from harness.core.lifecycle import Stage
from harness.core.ports import Offer
from harness.guard import destroy
from harness.ledger import billing
from harness.ledger.events import Lost, PlanAgreed, Rented, RentIntended
from harness.ledger.kinds import JobEvent
from harness.runner import renting
from harness.runner import run as runner
from harness.runner.renting import RentPlan
from harness.runner.replacement import NOBODY_AGREES, Agreement
from tests.support.context import Killed, Telling, World, make_world
from tests.support.scripted_world import offer

ROOT = Path(__file__).resolve().parents[3]


@dataclass(slots=True)
class Person:
    """Somebody who is shown plans: ``says`` is the answer, ``thinks`` happens meanwhile."""

    says: str | None = "the person agrees"
    thinks: Callable[[], None] = lambda: None
    plans: list[RentPlan] = field(default_factory=list)

    def ask(self, plan: RentPlan) -> str | None:
        self.plans.append(plan)
        self.thinks()
        return self.says

    @property
    def agreement(self) -> Agreement:
        return Agreement(self.ask, lambda _: True)

    @property
    def shown(self) -> list[list[int]]:
        """The offers of each plan."""
        return [[one.id for one in plan.offers] for plan in self.plans]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(tmp_path, monkeypatch, fast=True)


def _provision(world: World, person: Person, **more: Any) -> Telling:
    return world.run(until=Stage.PROVISION, agreement=person.agreement, **more)


def _asked_for(world: World) -> list[object]:
    return [arguments[0] for name, arguments in world.provider.calls if name == "create"]


def _change(world: World, **fields: Any) -> None:
    """Every offer of the market changes."""
    world.market.offers = [dataclasses.replace(one, **fields) for one in world.market.offers]


def test_what_was_agreed_to_is_recorded_before_anything_is_asked_for(world: World) -> None:
    person = Person()
    _provision(world, person)
    kinds = world.kinds()
    assert kinds.index(PlanAgreed) < kinds.index(RentIntended) < kinds.index(Rented)
    (agreed,) = world.history.all(PlanAgreed)
    assert person.shown == [[501, 502]]
    assert [(one["id"], one["usd_per_hour"]) for one in agreed.offers] == [(501, 15.9), (502, 15.9)]
    assert agreed.how == "the person agrees"
    assert agreed.usd == person.plans[0].forecasts[0].usd
    assert agreed.budget_usd == world.job.limits.budget_usd


def test_an_agreement_is_used_up_by_the_instance_that_is_rented(world: World) -> None:
    _provision(world, Person())
    assert world.history.agreed is None


@pytest.mark.parametrize("agreement", [NOBODY_AGREES, Person(says=None).agreement])
def test_when_nobody_agrees_nothing_is_rented(world: World, agreement: Agreement) -> None:
    with pytest.raises(Refused, match="nobody agreed to the plan: nothing was rented") as raised:
        world.run(agreement=agreement)
    assert f"harness run {world.job.name} --yes" in raised.value.remedy
    assert f"harness plan {world.job.name}" in raised.value.remedy
    assert _asked_for(world) == []
    assert not {PlanAgreed, RentIntended} & set(world.kinds())
    _provision(world, Person())
    assert _asked_for(world) == [501]


def test_without_an_offer_nobody_is_asked(world: World) -> None:
    world.market.offers, person = [], Person()
    with pytest.raises(GateHeld, match="no offer has 8x H100"):
        _provision(world, person)
    assert person.plans == []


DEARER: dict[str, dict[str, Any]] = {
    "the price by the hour": {"usd_per_hour": 15.91},
    "the price of traffic in": {"usd_per_gb_down": 0.001},
    "the price of traffic out": {"usd_per_gb_up": 0.001},
    "another board": {"gpu_name": "H100 NVL"},
    "more GPUs": {"num_gpus": 16},
    "a price of the disk that was not told": {"disk_usd_per_hour": 0.01},
    "another machine": {"machine_id": 99},
}
THE_SAME: dict[str, dict[str, Any]] = {
    "a lower price": {"usd_per_hour": 15.0},
    "another reliability": {"reliability": 0.96},
    "another line": {"inet_down_mbps": 900.0},
    "nothing": {},
}


@pytest.mark.parametrize("change", DEARER.values(), ids=DEARER)
def test_what_changes_while_a_person_thinks_is_shown_again(world: World, change: dict[str, Any]) -> None:
    person = Person()

    def thinks() -> None:
        if len(person.plans) == 1:
            _change(world, **change)

    person.thinks = thinks
    _provision(world, person)
    assert person.shown == [[501, 502], [501, 502]]
    assert world.kinds().count(PlanAgreed) == 2
    assert dataclasses.asdict(person.plans[1].offers[0]).items() >= change.items()


@pytest.mark.parametrize("change", THE_SAME.values(), ids=THE_SAME)
def test_what_only_gets_better_is_not_asked_for_again(world: World, change: dict[str, Any]) -> None:
    person = Person(thinks=lambda: _change(world, **change))
    _provision(world, person)
    assert len(person.plans) == 1


def test_offers_that_are_gone_while_a_person_thinks_are_shown_anew(world: World) -> None:
    person = Person()

    def thinks() -> None:
        if len(person.plans) == 1:
            world.market.offers = [offer(600)]

    person.thinks = thinks
    _provision(world, person)
    assert person.shown == [[501, 502], [600]]
    assert _asked_for(world) == [600]


def test_offers_that_are_gone_when_they_are_asked_for_are_followed_by_a_plan_of_others(world: World) -> None:
    world.market.offers = [offer(501)]
    world.provider.break_("create", OfferGone("taken"))
    person = Person(thinks=lambda: world.market.offers.extend([offer(600)] * (len(world.market.offers) == 1)))
    _provision(world, person)
    assert _asked_for(world) == [501, 600]
    assert person.shown == [[501], [600]]


def test_a_person_may_say_no_to_the_others(world: World) -> None:
    person = Person()

    def thinks() -> None:
        person.says = "yes" if len(person.plans) == 1 else None
        world.market.offers = [offer(600)]

    person.thinks = thinks
    with pytest.raises(Refused):
        _provision(world, person)
    assert _asked_for(world) == []


def test_a_market_that_never_holds_still_is_given_up(world: World) -> None:
    person = Person()

    def thinks() -> None:
        world.market.offers = [offer(600 + len(person.plans))]

    person.thinks = thinks
    with pytest.raises(OfferGone):
        _provision(world, person)
    assert _asked_for(world) == []
    assert len(person.plans) <= 6


def test_a_cheaper_offer_that_was_not_shown_is_not_slipped_in(world: World) -> None:
    person = Person(thinks=lambda: world.market.offers.insert(0, dataclasses.replace(offer(600), usd_per_hour=1.0)))
    _provision(world, person)
    assert _asked_for(world) == [501]


def _killed_after(kind: type[JobEvent]) -> Callable[[JobEvent, bool], None]:
    def kill(event: JobEvent, done: bool) -> None:
        if done and isinstance(event, kind):
            raise Killed

    return kill


@pytest.fixture
def agreed(world: World) -> World:
    """Killed between the agreement and the rent."""
    with pytest.raises(Killed):
        _provision(world, Person(), on_record=_killed_after(PlanAgreed))
    assert _asked_for(world) == []
    return world


def test_an_agreement_holds_after_a_kill(agreed: World) -> None:
    person = Person(says=None)
    _provision(agreed, person)
    assert person.plans == []
    assert agreed.kinds().count(PlanAgreed) == 1
    assert _asked_for(agreed) == [501]


def test_an_agreement_holds_after_a_kill_for_those_that_still_show(agreed: World) -> None:
    agreed.market.offers = [offer(600), offer(502)]
    _provision(agreed, Person(says=None))
    assert _asked_for(agreed) == [502]


@pytest.mark.parametrize("change", DEARER.values(), ids=DEARER)
def test_an_agreement_holds_for_nothing_dearer(agreed: World, change: dict[str, Any]) -> None:
    _change(agreed, **change)
    with pytest.raises(Refused):
        _provision(agreed, Person(says=None))
    _provision(agreed, person := Person())
    assert len(person.plans) == 1


@pytest.mark.parametrize("table", [{"machine": {"disk_gb": 400.0}}, {"limits": {"budget_usd": 39.0}}])
def test_another_job_file_is_agreed_to_anew(agreed: World, table: dict[str, Any]) -> None:
    agreed.change(**table)
    with pytest.raises(Refused):
        _provision(agreed, Person(says=None))


@pytest.mark.parametrize(
    ("shown", "now", "covered"),
    [(0.02, 0.02, True), (0.02, 0.01, True), (0.02, 0.021, False), (0.02, None, False), (None, 0.0, False)],
)
def test_the_price_of_a_stopped_disk_is_agreed_to_as_well(
    shown: float | None, now: float | None, covered: bool
) -> None:
    one = dataclasses.replace(offer(501), disk_usd_per_hour=shown)
    agreed = PlanAgreed("yes", (dataclasses.asdict(one),), 1.0, 1.0)
    assert renting.covers(agreed, dataclasses.replace(one, disk_usd_per_hour=now)) is covered


@pytest.mark.parametrize(
    ("later", "asked"), [(3500.0, False), (3700.0, True), (30 * 86_400.0, True), (-3500.0, False), (-3700.0, True)]
)
def test_an_agreement_ends_with_the_hour(agreed: World, later: float, asked: bool) -> None:
    """By the times of the log; a clock that was set back by more than that tells nothing."""
    agreed.clock.set(later)
    person = Person()
    _provision(agreed, person)
    assert bool(person.plans) is asked


def _broken_off() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("thinks", [lambda: None, _broken_off])
def test_a_no_ends_the_agreement_to_an_earlier_plan(agreed: World, thinks: Callable[[], None]) -> None:
    of_then = agreed.market.offers
    agreed.market.offers = [offer(600)]
    with pytest.raises((Refused, KeyboardInterrupt)):
        _provision(agreed, Person(says=None, thinks=thinks))
    assert [record.kind for record in agreed.history.records].count("plan_refused") == 1
    agreed.market.offers = of_then
    person = Person(says=None)
    with pytest.raises(Refused):
        _provision(agreed, person)
    assert person.shown == [[501, 502]]
    assert _asked_for(agreed) == []


def test_another_package_is_agreed_to_anew(agreed: World) -> None:
    (Path(agreed.job.package.source) / "train_deepseek_forex.py").write_text("# mended\n")
    runner.reopen_if_mended(agreed.context(), Telling())
    with pytest.raises(Refused):
        _provision(agreed, Person(says=None))


def test_what_is_abandoned_is_agreed_to_anew(world: World) -> None:
    world.run(until=Stage.PROVISION)
    destroy.abandon(world.context(), lambda _: True, lambda _: None)
    with pytest.raises(Refused):
        _provision(world, Person(says=None))


def test_a_job_with_an_instance_goes_on_without_a_word(world: World) -> None:
    """One of an earlier version has no plan in its log."""
    world.run(until=Stage.PROVISION)
    world.run(agreement=NOBODY_AGREES)
    assert world.history.closed


def test_a_rent_whose_reply_was_lost_is_found_without_a_word(world: World) -> None:
    with pytest.raises(Killed):
        _provision(world, Person(), on_record=_killed_after(RentIntended))
    world.market.add(4711, world.history.labels[-1])
    world.run(agreement=NOBODY_AGREES)
    assert world.history.closed


# --- preflight of long ago ---


@pytest.mark.parametrize(("later", "again"), [(5 * 3600.0, False), (7 * 3600.0, True), (-7 * 3600.0, True)])
def test_nothing_is_rented_on_a_preflight_of_long_ago(world: World, later: float, again: bool) -> None:
    world.run(until=Stage.PREFLIGHT)
    world.clock.set(later)
    told = _provision(world, Person())
    assert world.judged.count(Stage.PREFLIGHT) == 1 + again
    assert any("preflight is judged again before anything is rented" in note for note in told.notes) is again
    assert _asked_for(world) == [501]


def test_what_may_bill_is_found_before_an_old_preflight_is_judged_again(world: World) -> None:
    with pytest.raises(Killed):
        _provision(world, Person(), on_record=_killed_after(RentIntended))
    world.market.add(4711, world.history.labels[-1])
    world.clock.turn(9 * 3600.0)
    _provision(world, Person(says=None))
    assert world.history.rental is not None
    assert world.judged.count(Stage.PREFLIGHT) == 1


# --- in the place of a dead one -------------------------------------------------------------------


@pytest.fixture
def dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """In mid-training its instance is gone."""
    world = make_world(tmp_path, monkeypatch, fast=True, limits={"budget_usd": 60.0})
    world.market.offers.append(offer(503))
    world.run(until=Stage.LAUNCH)
    world.clock.turn(600)
    world.market.rented.clear()
    world.box.started = world.box.alive = False
    return world


def test_another_instance_is_agreed_to_once(dead: World) -> None:
    person = Person()
    dead.run(agreement=person.agreement)
    kinds = dead.kinds()
    assert [bool(plan.meaning) for plan in person.plans] == [True]
    assert "shows no instance 4711" in person.plans[0].meaning
    assert "Another instance costs at most $" in person.plans[0].meaning
    assert kinds.index(PlanAgreed) < kinds.index(RentIntended) < len(kinds) - 1 - kinds[::-1].index(PlanAgreed)
    assert len(kinds) - 1 - kinds[::-1].index(PlanAgreed) < kinds.index(Lost)
    assert dead.history.closed


def test_when_it_is_gone_and_its_offers_too_the_others_are_asked_for(dead: World) -> None:
    person = Person()

    def thinks() -> None:
        if len(person.plans) == 1:
            dead.market.offers = [offer(700)]

    person.thinks = thinks
    dead.run(agreement=person.agreement)
    assert [bool(plan.meaning) for plan in person.plans] == [True, True]
    assert "instance 4711 died, and is proven to be gone. Another instance costs at most $" in person.plans[1].meaning
    assert _asked_for(dead)[-1] == 700


def test_others_in_its_place_are_within_the_budget_too(dead: World, monkeypatch: pytest.MonkeyPatch) -> None:
    person = Person()

    def thinks() -> None:
        dead.market.offers = [offer(700)]
        monkeypatch.setattr(billing, "spent", lambda *_: 59.0)

    person.thinks = thinks
    with pytest.raises(GateHeld, match=r"another one is over the budget: \$59.00 are spent"):
        dead.run(agreement=person.agreement)
    assert len(person.plans) == 1
    assert 700 not in _asked_for(dead)


def test_where_no_offer_fits_now_nobody_gives_the_dead_one_up_but_a_person(dead: World) -> None:
    shown: list[RentPlan] = []
    dead.market.offers = []

    def nobody(plan: RentPlan) -> None:
        shown.append(plan)

    with pytest.raises(InstanceDead):
        dead.run(agreement=Agreement(nobody, lambda _: False))
    assert [plan.offers for plan in shown] == [()]
    assert dead.history.alive is not None


# --- the door -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shown", [None, offer(502), dataclasses.replace(offer(501), usd_per_hour=15.8)])
def test_nothing_that_no_plan_shows_is_asked_for(world: World, shown: Offer | None) -> None:
    world.run(until=Stage.PREFLIGHT)
    context = world.context()
    if shown is not None:
        context.record(renting.plan(world.job, [shown], (), None).agreed("yes"))
    with pytest.raises(Refused, match=r"offer 501 at \$15.90/h is in no plan that was agreed to"):
        renting._take(context, offer(501), Telling())
    assert RentIntended not in world.kinds()
    assert _asked_for(world) == []


@pytest.mark.parametrize("told", [{}, {"id": 501}, {"id": 501, "gpu_name": "H100 SXM", "num_gpus": 8}])
def test_an_agreement_that_tells_too_little_covers_nothing(told: dict[str, Any]) -> None:
    assert not renting.covers(PlanAgreed("yes", (told,), 1.0, 1.0), offer(501))


def test_one_place_alone_asks_for_an_instance() -> None:
    def creates(path: Path) -> bool:
        calls = [
            node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
        ]
        return any(
            isinstance(called, ast.Attribute) and called.attr == "create" and "provider" in ast.unparse(called.value)
            for called in calls
        )

    places = {path.relative_to(ROOT).as_posix() for path in (ROOT / "harness").rglob("*.py") if creates(path)}
    assert places == {"harness/runner/renting.py", "harness/conformance/run.py"}, (
        "the latter for itself, once agreed to"
    )


def test_a_plan_shows_the_first_five_offers(world: World) -> None:
    world.market.offers = [offer(500 + number) for number in range(9)]
    person = Person(says=None)
    with pytest.raises(Refused):
        _provision(world, person)
    assert person.shown == [[500, 501, 502, 503, 504]]
    assert OfferId(505) not in person.shown[0]
