"""The last look at a job that destroyed its own instance: each fact is what the log, the disk and the provider hold."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from harness.core.ids import InstanceId, JobName, VolumeId
from harness.core.lifecycle import Stage
from harness.core.ports import Volume
from harness.facts import teardown
from harness.ledger.events import Destroyed, Guarded
from tests.support.context import ScriptedContext, make_world


def test_a_job_that_let_its_instance_go_shows_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.run(lambda _id, _file: "typed 4711")
    seen = teardown.look(world.context())
    (guarded,), (gone,) = world.history.all(Guarded), world.history.all(Destroyed)
    assert gone.billing is not None
    assert seen.confirmed.get() == "typed 4711"
    assert seen.running.get() == guarded.running == ()
    assert (seen.release_problems.get(), seen.file_problems.get(), seen.volumes.get(), seen.orphans.get()) == ((),) * 4
    assert len(seen.absence.get().looks) == len(gone.absence["looks"]) >= 3
    assert len(seen.billing.get().looks) == len(gone.billing["looks"]) >= 2


def test_of_a_job_that_has_only_begun_nothing_is_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.open()
    seen = teardown.look(world.context())
    for fact in (seen.release_problems, seen.file_problems, seen.running, seen.confirmed, seen.absence, seen.billing):
        assert fact.value is None
        assert fact.problem


def test_an_instance_that_somebody_else_destroyed_was_not_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.run(until=Stage.POSTDOWNLOAD)
    world.market.rented.clear()
    world.run(lambda _id, _file: None)
    told = teardown.look(world.context()).confirmed.get()
    assert told == "not asked: it was destroyed by somebody else: this job never asked for its destruction"


def test_what_changed_since_it_was_released_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.run()
    assert world.history.verified is not None
    file = Path(world.history.verified.path)
    file.chmod(0o644)
    file.write_bytes(b"GGUF")
    world.clock.turn(10 * world.job.limits.release_valid_s)
    told = teardown.look(world.context())
    assert len(told.file_problems.get()) == 1
    assert "has 4 bytes" in told.file_problems.get()[0]
    assert told.release_problems.get() == (), "it was valid when the guard used it"


def test_a_volume_that_the_job_mounted_is_told_unless_it_is_to_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.run(until=Stage.UPLOAD)
    mounted = world.market.rented[InstanceId(4711)]
    world.market.stored = [Volume(VolumeId(at), None, 12, 20.0, 0.004, ()) for at in (3, 4)]
    known = dataclasses.replace(
        world.context().known(), volumes={VolumeId(3): world.job.name, VolumeId(4): JobName("another")}
    )
    monkeypatch.setattr(ScriptedContext, "known", lambda _: known)
    (told,) = teardown.look(world.context()).volumes.get()
    assert "volume 3" in told
    assert mounted.id in world.market.rented
    world.change(provider={"kept_volumes": ["3"]})
    assert teardown.look(world.context()).volumes.get() == ()
