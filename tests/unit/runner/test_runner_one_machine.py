"""One machine a job, whatever the ledger remembers: what may have been rented is found before anything is rented."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import AmbiguousCreate, GateHeld, OfferGone, ProviderUnavailable, Unaccounted
from harness.core.ids import InstanceId, VolumeId, is_label_of
from harness.core.lifecycle import Stage
from harness.core.ports import Listing, Volume
from harness.ledger.events import Lost, Rented, RentFailed
from harness.ledger.jobs import Ledger
from tests.support.context import Killed, MemoryStore, World, make_world
from tests.support.scripted_world import offer

LABEL = "gsh-night-0a1b2c3d"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(tmp_path, monkeypatch, fast=True)


def _forget(world: World) -> None:
    """Put the ledger back to what it was when preflight had just passed: a copy from before the rent."""
    assert isinstance(world.store, MemoryStore)
    log = world.store.logs[world.job.name]
    del log[next(n for n, one in enumerate(log) if one.kind == "gate") + 1 :]


def _evidence(world: World) -> Path:
    """The facts of the provision gate, as a real run leaves them in the job's folder."""
    found = world.market.rented.get(InstanceId(4711))
    told = {"id": 4711, "label": found.label if found else LABEL}
    facts = {"facts": {"instance": {"value": told}, "offer": {"value": dataclasses.asdict(offer())}}}
    path = world.home / "jobs" / "night" / "evidence" / "provision-1800000000000.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts))
    return path


def _killed_at_the_create(world: World, *, commit: bool) -> None:
    world.provider.break_("create", Killed(), commit=commit)
    with pytest.raises(Killed):
        world.run()


def test_a_ledger_from_before_the_rent_rents_nothing_beside_what_is_there(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    _forget(world)
    with pytest.raises(GateHeld, match=r"instance 4711 .*") as raised:
        world.run()
    assert "the ledger does not account for it" in str(raised.value)
    assert world.provider.count("create") == 1
    assert "harness destroy --instance-id 4711 --job-file" in raised.value.remedy
    assert "job.toml" in raised.value.remedy


@pytest.mark.parametrize("listed", [True, False])
def test_what_the_jobs_own_folder_tells_of_is_taken_back(world: World, listed: bool) -> None:
    world.run(until=Stage.LAUNCH)
    _evidence(world)
    _forget(world)
    if not listed:
        world.provider.break_("instances", Listing(()), times=2)
    world.run()
    assert world.provider.count("create") == 1
    assert world.box.attempts == 1, "the training goes on"
    assert world.history.closed


def test_what_the_folder_tells_of_and_is_proven_gone_is_followed_by_a_rent(world: World) -> None:
    _evidence(world)
    began = world.clock.true()
    world.run(until=Stage.PROVISION)
    assert world.provider.count("create") == 1
    assert world.clock.true() - began >= 3 * world.job.limits.absence_window_s


@pytest.mark.parametrize(
    "spoilt",
    [
        b"",
        b"[]",
        b"not json",
        b'{"facts": {"instance": {"value": null}}}',
        b'{"facts": {"instance": {"value": {"id": "4711", "label": "gsh-night-0a1b2c3d"}}, "offer": {"value": {}}}}',
        b'{"facts":{"instance":{"value":{"id":4,"label":"gsh-b-0a1b2c3d"}},"offer":{"value":{"usd_per_hour":1}}}}',
    ],
)
def test_evidence_that_reads_oddly_tells_of_nothing(world: World, spoilt: bytes) -> None:
    _evidence(world).write_bytes(spoilt)
    world.run(until=Stage.PROVISION)
    assert world.provider.count("create") == 1


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("pause_s", [0.0, 180.0, 86_400.0])
def test_an_empty_listing_after_a_lost_create_is_no_ground_to_rent(world: World, times: int, pause_s: float) -> None:
    """Killed when the create had taken effect; three minutes later, or a day, a listing is falsely empty."""
    _killed_at_the_create(world, commit=True)
    world.clock.turn(pause_s)
    world.provider.break_("instances", Listing(()), times=times)
    world.run(until=Stage.PROVISION)
    assert world.provider.count("create") == 1
    assert world.kinds().count(Rented) == 1
    assert RentFailed not in world.kinds()


@pytest.mark.parametrize("hours", [6.0, -6.0])
def test_a_clock_that_was_set_shortens_no_proof(world: World, hours: float) -> None:
    _killed_at_the_create(world, commit=False)
    world.clock.set(hours * 3600)
    began = world.clock.true()
    world.run(until=Stage.PROVISION)
    assert 180 <= world.clock.true() - began < 400


def test_one_falsely_empty_listing_is_no_ground_for_a_forgetful_ledger_either(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    _forget(world)
    world.provider.break_("instances", Listing(()))
    with pytest.raises(GateHeld, match="instance 4711"):
        world.run()
    assert world.provider.count("create") == 1


def test_a_first_rent_waits_for_one_window_of_proof_before_anything_is_billed(world: World) -> None:
    world.run(until=Stage.PREFLIGHT)
    began = world.clock.true()
    world.run(until=Stage.PROVISION)
    window_s = world.history.job.limits.absence_window_s
    assert window_s <= world.clock.true() - began <= window_s + 3.0


@pytest.mark.parametrize("empty", [1, 2, 5])
def test_a_lost_ledger_and_some_empty_listings_rent_no_second_machine(world: World, empty: int) -> None:
    """Neither the ledger nor the job's folder knows of it, and the provider hides it for a while."""
    world.market.add(900, LABEL)
    world.provider.break_("instances", Listing(()), times=empty)
    with pytest.raises(Unaccounted, match="instance 900"):
        world.run()
    assert world.provider.count("create") == 0


def test_a_listing_whose_instances_do_not_show_proves_nothing(world: World) -> None:
    world.market.add(900, "a stranger's")
    world.provider.break_("instance", None, times=0)
    with pytest.raises(AmbiguousCreate, match="listed but not shown"):
        world.run()
    assert world.provider.count("create") == 0


def test_an_instance_that_shows_after_its_rent_was_given_up_is_taken_back(world: World) -> None:
    _killed_at_the_create(world, commit=False)
    world.provider.break_("create", OfferGone("taken"), times=0)
    with pytest.raises(OfferGone):
        world.run()
    assert RentFailed in world.kinds()
    world.market.add(4799, world.history.labels[0])
    world.run(until=Stage.PROVISION)
    assert world.history.rental is not None
    assert world.history.rental.instance_id == InstanceId(4799)
    assert not world.market.created


def test_an_instance_that_was_given_up_and_shows_again_is_held(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    world.store.append(world.job.name, Lost(InstanceId(4711), "agreed", 12, None, {}, {}))
    with pytest.raises(GateHeld, match="instance 4711"):
        world.run()
    assert world.provider.count("create") == 1


def _instance(label: str | None) -> Callable[[World], object]:
    return lambda world: world.market.add(99, label)


def _volume(label: str) -> Callable[[World], object]:
    return lambda world: world.market.stored.append(Volume(VolumeId(5), label, 12, 20.0, 0.004))


@pytest.mark.parametrize(
    ("put", "held"),
    [
        (_instance(LABEL), True),
        (_instance("gsh-night-2-0a1b2c3d"), False),
        (_instance("gsh-nights-0a1b2c3d"), False),
        (_instance(None), False),
        (_volume(LABEL), True),
        (_volume("mine"), False),
    ],
)
def test_only_this_jobs_label_holds_it(world: World, put: Callable[[World], object], held: bool) -> None:
    put(world)
    if held:
        with pytest.raises(GateHeld, match="under this job's label"):
            world.run()
    else:
        world.run(until=Stage.PROVISION)
    assert world.provider.count("create") == (not held)


def test_a_volume_that_is_meant_to_stay_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, provider={"kept_volumes": [5]})
    _volume(LABEL)(world)
    world.run(until=Stage.PROVISION)
    assert world.provider.count("create") == 1


@pytest.mark.parametrize(
    ("job", "label", "whose"),
    [
        ("night", "gsh-night-0a1b2c3d", True),
        ("night", "gsh-night-0a1b2c3d-1", False),
        ("night", "gsh-night-0a1b2c3d-0a1b2c3d", False),
        ("night-0a1b2c3d", "gsh-night-0a1b2c3d-0a1b2c3d", True),
        ("a.b", "gsh-axb-0a1b2c3d", False),
        ("night", None, False),
    ],
)
def test_a_label_names_its_very_job(job: str, label: str | None, whose: bool) -> None:
    assert is_label_of(label, job) is whose


@pytest.mark.parametrize(
    "bait",
    [
        {"usd_per_hour": -1.0},
        {"usd_per_hour": 0.0},
        {"usd_per_hour": 0.05},
        {"usd_per_hour": float("nan")},
        {"usd_per_gb_up": -0.01},
        {"usd_per_gb_down": 50.0},
        {"usd_per_gb_up": float("nan")},
    ],
)
def test_an_offer_at_an_absurd_price_is_not_rented(world: World, bait: dict[str, float]) -> None:
    odd = dataclasses.replace(offer(501), **bait)  # type: ignore[arg-type]  # prices, all of them
    world.market.offers = [odd]
    with pytest.raises(GateHeld, match="no offer"):
        world.run()
    world.market.offers = [odd, offer(502)]
    world.run(until=Stage.PROVISION)
    assert [told[0] for name, told in world.provider.calls if name == "create"] == [502]


def test_a_rent_without_an_outcome_shows_as_what_may_bill(world: World) -> None:
    _killed_at_the_create(world, commit=True)
    row = Ledger(world.store).row(world.job.name, world.clock.now())
    assert row["alive"] is None
    assert row["unresolved"] == world.history.labels[0]
    world.run(until=Stage.PROVISION)
    row = Ledger(world.store).row(world.job.name, world.clock.now())
    assert (row["alive"], row["unresolved"]) == (True, None)


def test_what_an_older_ledger_does_not_account_for_shows_as_what_may_bill(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    _evidence(world)
    _forget(world)
    told = Ledger(world.store, world.home / "jobs")
    assert told.row(world.job.name, world.clock.now())["alive"] is None, "its folder tells of an instance"
    assert [row["alive"] for row in told.rows(world.clock.now())] == [None]
    _evidence(world).unlink()
    with pytest.raises(Unaccounted, match="instance 4711"):
        world.run()
    assert told.row(world.job.name, world.clock.now())["alive"] is None, "the instance was seen"
    world.market.rented.clear()
    world.run(until=Stage.PROVISION)
    assert told.row(world.job.name, world.clock.now())["alive"] is True


def test_a_job_that_finds_no_offer_has_nothing_billing(world: World) -> None:
    world.market.offers.clear()
    with pytest.raises(GateHeld, match="no offer"):
        world.run()
    assert Ledger(world.store, world.home / "jobs").row(world.job.name, world.clock.now())["alive"] is False


@pytest.mark.parametrize("method", ["instances", "account", "volumes"])
def test_a_look_that_fails_for_ever_is_held_and_rents_nothing(world: World, method: str) -> None:
    _killed_at_the_create(world, commit=True)
    world.market.rented.clear()
    world.provider.break_(method, ProviderUnavailable("away"), times=0)
    with pytest.raises(ProviderUnavailable):
        world.run()
    assert world.provider.count("create") == 1
