"""A job that another process took over at any event of its life: the first one changes nothing any more."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.core.errors import LeaseLost
from harness.core.ids import JobName
from harness.core.lifecycle import Stage
from harness.job.staging import package_files
from harness.ledger.chain import Record
from harness.ledger.kinds import JobEvent
from harness.runner import ahead, package, stopping, switch, training
from tests.support.context import MemoryStore, Telling, World, make_world
from tests.unit.runner.test_runner_kills import EVENTS

ACTS = ("create", "start", "stop", "destroy")


@dataclass(slots=True)
class TakenStore(MemoryStore):
    """A store whose lease another process has from some moment on."""

    taken: bool = False

    def append(self, job: JobName, event: JobEvent, *, expected_seq: int | None = None) -> Record:
        self.require_lease(job)
        return MemoryStore.append(self, job, event, expected_seq=expected_seq)

    def require_lease(self, job: JobName, *, within_s: float = 0.0) -> None:
        del within_s
        if self.taken:
            raise LeaseLost(f"job {job} was taken over by process 1 on another machine")


def _seen(world: World) -> dict[str, object]:
    """Everything that a driver of the job can change: at the provider, on the box, in the store."""
    box = world.box
    return {
        "acts": {act: world.provider.count(act) for act in ACTS},
        "box": (box.attempts, box.stops, dict(box.begun), [one for one in box.commands if one], box.armed, box.switch),
        "keys": dict(world.keys.known),
        "files": {name: path.stat().st_mtime_ns for name, path in package_files(box.root)},
        "log": world.store.records(world.job.name),
    }


@pytest.mark.parametrize("number", range(2, EVENTS))
def test_taken_over_behind_an_event(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    store = TakenStore(world.clock)
    world.store, before = store, dict[str, object]()
    count = itertools.count(2)  # the first event is written before there is a context

    def take(_event: JobEvent, done: bool) -> None:
        if done and not store.taken and next(count) == number:
            store.taken = True
            before.update(_seen(world))

    with pytest.raises(LeaseLost, match="was taken over by process 1 on another machine"):
        world.run(on_record=take)
    assert before
    assert _seen(world) == before


def test_an_instance_of_a_job_that_was_taken_over_is_not_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.store = store = TakenStore(world.clock)
    world.run(until=Stage.LAUNCH)
    store.taken = True
    with pytest.raises(LeaseLost):
        stopping.stop_instance(world.context(), Telling(), "the budget is used up")
    with pytest.raises(LeaseLost):
        training.require_stopped(world.context(), Telling(), "the package has changed")
    assert (world.provider.count("stop"), world.box.stops) == (0, 0)
    store.taken = False
    assert stopping.stop_instance(world.context(), Telling(), "the budget is used up")


@pytest.mark.parametrize("moment", ["before the key", "with the key", "armed before", "taken off"])
def test_the_switch_of_a_job_that_was_taken_over_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, limits={"stop_unheard_s": 900.0})
    world.store = store = TakenStore(world.clock)
    armed = moment in {"armed before", "taken off"}
    world.run(until=Stage.LAUNCH if armed else Stage.INSTALL)

    def take(act: str) -> None:
        store.taken = act == "issued"

    if moment == "with the key":
        world.keys.breaks = take
    else:
        store.taken = True
    before = (world.box.armed, world.box.switch, world.keys.issued)
    act = switch.disarm if moment == "taken off" else switch.arm
    with pytest.raises(LeaseLost):
        act(world.context(), Telling())
    assert (world.box.armed, world.box.switch) == before[:2]
    assert world.keys.issued == before[2] + (moment == "with the key")


def test_nothing_is_sent_or_installed_for_a_job_that_was_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, package={"fetch_option": ""})
    world.store = store = TakenStore(world.clock)
    world.run(until=Stage.PROVISION)
    monkeypatch.setattr(ahead, "begin", lambda *_: None)
    store.taken = True
    with pytest.raises(LeaseLost):
        package.upload(world.context(), Telling())
    assert not list(package_files(world.box.root))
    store.taken = False
    world.run(until=Stage.UPLOAD)
    store.taken, before = True, list(world.box.commands)
    with pytest.raises(LeaseLost):
        package.install(world.context(), Telling(), 60.0)
    assert world.box.commands == before
