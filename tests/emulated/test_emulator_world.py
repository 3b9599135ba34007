"""The service's state: states and money over time, on a clock that stands still until it is turned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import BadInput
from harness.emulator.charges import Charges
from harness.emulator.clock import TurnableClock
from harness.emulator.refusal import Refusal
from harness.emulator.rental import Status
from harness.emulator.scenario import Scenario
from harness.emulator.world import World
from tests.support.emulator_kit import OFFER, create_request

HOUR = 3600.0


@pytest.fixture
def still(tmp_path: Path) -> World:
    """A world without servers or boxes, whose time stands still."""
    return World(tmp_path, TurnableClock(speed=0), Scenario())


def test_states_follow_the_clock(still: World) -> None:
    rental_id = still.create(OFFER, create_request()).id
    seen = [still.rental(rental_id).status]
    for _ in range(4):
        still.clock.turn(0.5)
        seen.append(still.rental(rental_id).status)
    assert seen == [Status.PROVISIONING, Status.CREATED, Status.LOADING, Status.RUNNING, Status.RUNNING]


def test_gpus_are_billed_while_running_and_the_disk_always(still: World) -> None:
    rental = still.create(OFFER, create_request(disk=730.0))
    still.clock.turn(1.5)
    still.settle()
    still.clock.turn(HOUR)
    still.stop(rental.id)
    still.clock.turn(2 * HOUR)
    still.settle()
    by_kind = {entry.kind: 0.0 for entry in still.state.charges.entries}
    for entry in still.state.charges.entries:
        by_kind[entry.kind] += entry.usd
    assert by_kind["gpu"] == pytest.approx(15.92)
    assert by_kind["disk"] == pytest.approx(0.15 * (3 * HOUR + 1.5) / HOUR)


def test_one_long_turn_charges_as_many_short_ones_do(tmp_path: Path) -> None:
    totals = []
    for name, steps in (("once", [5000.0]), ("often", [0.7] * 10 + [4993.0])):
        (tmp_path / name).mkdir()
        world = World(tmp_path / name, TurnableClock(speed=0), Scenario())
        rental = world.create(OFFER, create_request())
        for step in steps:
            world.clock.turn(step)
            world.settle()
        totals.append(world.state.charges.total(rental.id))
    assert totals[0] == pytest.approx(totals[1])


def test_without_credit_it_stops_and_after_a_grace_it_is_destroyed(still: World) -> None:
    rental = still.create(OFFER, create_request())
    still.clock.turn(7 * HOUR)
    assert still.credit() < 0
    assert still.rental(rental.id).status is Status.STOPPED
    with pytest.raises(Refusal, match="credit"):
        still.start(rental.id)
    still.clock.turn(48 * HOUR)
    assert not still.rentals()


def test_at_the_contracts_end_it_stops_for_good_and_is_deleted_two_days_later(tmp_path: Path) -> None:
    world = World(tmp_path, TurnableClock(speed=0), Scenario.model_validate({"account": {"credit_usd": 1e6}}))
    rental = world.create(OFFER, create_request())
    world.clock.turn(31 * 24 * HOUR)
    assert world.rental(rental.id).status is Status.STOPPED
    with pytest.raises(Refusal, match="contract"):
        world.start(rental.id)
    world.clock.turn(48 * HOUR)
    assert not world.rentals()


def test_a_host_that_is_offline_hears_of_no_stop_and_no_start(still: World) -> None:
    rental = still.create(OFFER, create_request())
    still.clock.turn(2)
    still.become(rental.id, Status.OFFLINE, "the host is offline")
    still.stop(rental.id)
    assert (still.rental(rental.id).status, still.rental(rental.id).intended) == (Status.OFFLINE, Status.STOPPED)
    still.start(rental.id)
    still.clock.turn(HOUR)
    assert (still.rental(rental.id).status, still.rental(rental.id).intended) == (Status.OFFLINE, Status.RUNNING)


def test_frozen_bills_its_gpus_and_exited_does_not_come_back(still: World) -> None:
    rental = still.create(OFFER, create_request())
    still.clock.turn(2)
    still.become(rental.id, Status.FROZEN)
    before = still.state.charges.total()
    still.clock.turn(HOUR)
    still.settle()
    assert still.state.charges.total() - before > 15.9
    still.become(rental.id, Status.EXITED, "OCI runtime create failed")
    still.clock.turn(24 * HOUR)
    assert still.rental(rental.id).status is Status.EXITED


def test_a_destroyed_instance_is_offered_again_under_another_number(still: World) -> None:
    rental = still.create(OFFER, create_request())
    assert all(row["id"] != OFFER or row["rented"] for row in still.search({}))
    still.destroy(rental.id)
    again = [row for row in still.search({}) if row["machine_id"] == rental.ask.machine_id]
    assert [(row["id"] != OFFER, row["rentable"]) for row in again] == [(True, True)]
    with pytest.raises(Refusal) as second:
        still.destroy(rental.id)
    assert second.value.status == 404


def test_bids_and_outbidding(still: World) -> None:
    with pytest.raises(Refusal, match="minimum"):
        still.create(OFFER, create_request(price=1.0))
    rental = still.create(OFFER, create_request(price=9.0))
    still.bid(rental.id, 10.0)
    still.stop(rental.id, "outbid")
    assert (still.rental(rental.id).status, still.rental(rental.id).price_per_hour) == (Status.STOPPED, 10.0)


def test_volumes_bill_on_when_the_instance_is_gone(still: World) -> None:
    rental = still.create(OFFER, create_request())
    volume = still.create_volume(OFFER, 730.0, "data")
    still.destroy(rental.id)
    still.clock.turn(HOUR)
    still.settle()
    assert still.state.charges.total(volume.id) == pytest.approx(0.15)
    still.delete_volume(volume.id)
    still.clock.turn(HOUR)
    still.settle()
    assert still.state.charges.total(volume.id) == pytest.approx(0.15)


def test_the_state_survives_and_the_clock_never_runs_back(tmp_path: Path) -> None:
    first = World(tmp_path, TurnableClock(speed=0), Scenario())
    rental = first.create(OFFER, create_request(label="kept", env={"A": "b"}))
    first.clock.turn(10 * HOUR)
    first.settle()
    first.save()
    second = World(tmp_path, TurnableClock(speed=0), Scenario())
    assert second.clock.now() >= first.clock.now()
    assert second.state.key == first.state.key
    assert second.rental(rental.id).label == "kept"
    assert second.state == first.state
    written = json.loads((tmp_path / "emulator.json").read_bytes())["state"]
    assert {name: type(written[name]) for name in ("asks", "rentals", "volumes", "ledger")} == {
        "asks": list,
        "rentals": list,
        "volumes": list,
        "ledger": list,
    }


@pytest.mark.parametrize(
    "damage", ["", "[]", '{"version": 99}', '{"version": 1, "now": 0, "state": {"key": "hush"}}', '{"version": "hush"}']
)
def test_a_state_that_cannot_be_read_is_refused_and_named_without_its_words(tmp_path: Path, damage: str) -> None:
    (tmp_path / "emulator.json").write_text(damage)
    with pytest.raises(BadInput, match=r"emulator\.json") as refused:
        World(tmp_path, TurnableClock(), Scenario())
    assert "hush" not in str(refused.value)


@given(st.lists(st.tuples(st.floats(0, 2e5), st.floats(0.01, 50)), min_size=1, max_size=20))
@settings(max_examples=60)
def test_the_ledger_adds_up_whatever_the_days(spans: list[tuple[float, float]]) -> None:
    charges, now, expected = Charges(), 1.7e9, 0.0
    for seconds, rate in spans:
        charges.hours(1, "gpu", now, now + seconds, rate)
        now += seconds
        expected += seconds / HOUR * rate
    assert charges.total(1) == pytest.approx(expected, abs=1e-6)  # a clock of 1.7e9 s is exact to 2e-7 s
    assert all(
        entry.start // 86400 == (entry.end - 1e-6) // 86400 for entry in charges.entries if entry.end > entry.start
    )
    assert charges.total() == pytest.approx(sum(entry.usd for entry in charges.entries))
