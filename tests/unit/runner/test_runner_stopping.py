"""A stop is asked for until it is proven, and whoever gives up says what bills and what to type."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import GateHeld, InstanceDead, ProviderUnavailable
from harness.core.lifecycle import Stage
from harness.core.ports import InstanceStatus
from harness.ledger.events import InstanceStopped
from harness.runner import stopping
from tests.support.context import Telling, World, make_world

OWN = {"kind": "ssh", "host": "my-box"}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = make_world(tmp_path, monkeypatch, fast=True)
    made.run(until=Stage.LAUNCH)
    return made


def _own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = make_world(folder, monkeypatch, fast=True, provider=OWN)
    made.run(until=Stage.PROVISION)
    return made


def test_without_an_instance_nothing_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.open()
    assert not stopping.stop_instance(world.context(), Telling(), "why")
    with pytest.raises(GateHeld, match=r"^too much$"):
        stopping.stop_over(world.context(), Telling(), "too much", "limits.budget_usd")
    stopping.keep_from_billing(world.context(), Telling(), "why")
    assert world.provider.count("stop") == 0


def test_what_is_stopped_is_recorded_and_told(world: World) -> None:
    telling = Telling()
    assert stopping.stop_instance(world.context(), telling, "for the night")
    (only,) = world.market.rented
    assert world.history.all(InstanceStopped) == (InstanceStopped(only, "for the night"),)
    assert telling.notes == [f"instance {only} was stopped, its disk kept: for the night"]


def test_it_is_asked_for_at_longer_and_longer_intervals_and_each_reason_is_told_once(world: World) -> None:
    world.provider.break_("stop", ProviderUnavailable("429"), times=5)
    world.provider.break_("stop", ProviderUnavailable("503"), after=0, times=3)
    before = len(world.clock.slept)
    telling = Telling()
    assert stopping.stop_instance(world.context(), telling, "why")
    assert world.clock.slept[before:] == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    (only,) = world.market.rented
    assert telling.notes[:-1] == [
        f"instance {only} is not stopped yet: {reason}; asking until it is" for reason in ("429", "503")
    ]


def test_a_stop_that_does_nothing_is_told_by_what_is_seen_and_given_up_after_a_day(world: World) -> None:
    world.provider.break_("stop", None, times=0)
    began = world.clock.monotonic()
    telling = Telling()
    assert not stopping.stop_instance(world.context(), telling, "why")
    assert 24 * 3600 <= world.clock.monotonic() - began < 24 * 3600 + 61
    (only,) = world.market.rented
    assert telling.notes == [f"instance {only} is not stopped yet: it is running; asking until it is"]
    assert InstanceStopped not in world.kinds()


@pytest.mark.parametrize("status", [InstanceStatus.STOPPED, InstanceStatus.EXITED, InstanceStatus.OFFLINE])
@pytest.mark.parametrize("refused", [True, False])
def test_what_stands_still_after_an_accepted_stop_is_stopped(
    world: World, status: InstanceStatus, refused: bool
) -> None:
    (only,) = world.market.rented
    if refused:
        world.provider.break_("stop", ProviderUnavailable("no"), times=3)
    world.market.change(only, status=status)
    stopping.stop_instance(world.context(), telling := Telling(), "why")
    assert len(telling.notes) == 1 + (refused and status is not InstanceStatus.STOPPED)


@pytest.mark.parametrize("refused", [True, False])
def test_a_provider_that_shows_nothing_proves_nothing(world: World, refused: bool) -> None:
    if refused:
        world.provider.break_("stop", ProviderUnavailable("stop: 503"))
    world.provider.break_("instance", ProviderUnavailable("show: 503"))
    telling = Telling()
    assert stopping.stop_instance(world.context(), telling, "why")
    assert ("stop: 503" if refused else "show: 503") in telling.notes[0]


def test_one_that_is_gone_is_no_stopped_one(world: World) -> None:
    world.market.rented.clear()
    with pytest.raises(InstanceDead):
        stopping.stop_instance(world.context(), Telling(), "why")
    stopping.keep_from_billing(world.context(), Telling(), "why")
    assert InstanceStopped not in world.kinds()


def test_one_that_still_shows_is_kept_from_billing(world: World) -> None:
    stopping.keep_from_billing(world.context(), Telling(), "it is dead")
    (instance,) = world.market.rented.values()
    assert instance.status is InstanceStatus.STOPPED


@pytest.mark.parametrize("field", ["limits.budget_usd", "machine.max_usd_per_hour"])
def test_who_is_over_a_limit_is_told_which_and_how_to_go_on(world: World, field: str) -> None:
    with pytest.raises(GateHeld, match=r"^\$41 are spent$") as held:
        stopping.stop_over(world.context(), Telling(), "$41 are spent", field)
    assert held.value.remedy == (
        f"The instance is stopped, its disk kept with all that is on it. Raise {field} in the job file, then harness "
        "run night --accept-changes starts it again and goes on where it stood."
    )
    stops = world.provider.count("stop")
    with pytest.raises(GateHeld):
        stopping.stop_over(world.context(), Telling(), "$41 are spent", field)
    assert world.provider.count("stop") == stops, "it stands still already"


def test_an_interrupt_while_it_is_asked_for_says_that_it_bills(world: World) -> None:
    world.provider.break_("stop", KeyboardInterrupt())
    with pytest.raises(
        GateHeld, match=r"^why, and instance 4711 could not be stopped: it still bills \$15.90/h"
    ) as held:
        stopping.stop_instance(world.context(), Telling(), "why")
    assert "harness run night asks for the stop again" in held.value.remedy
    assert InstanceStopped not in world.kinds()


def test_a_machine_of_ones_own_is_never_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = _own(tmp_path, monkeypatch)
    telling = Telling()
    assert stopping.stop_instance(world.context(), telling, "too long")
    assert telling.notes == ["too long: nothing is stopped on your own machine, and what runs there goes on"]
    with pytest.raises(GateHeld, match="too long") as held:
        stopping.stop_over(world.context(), telling, "too long", "limits.training_deadline_s")
    assert held.value.remedy == (
        "Your machine is left as it is: nothing on it was stopped. Raise limits.training_deadline_s in the job file, "
        "then harness run night --accept-changes goes on where it stood."
    )
    assert world.provider.count("stop") == 0
    assert InstanceStopped not in world.kinds()
