"""The last look at a job that destroyed its own instance: each fact is what the log, the disk and the provider hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.facts import teardown
from harness.ledger.events import Destroyed, Guarded
from tests.support.context import make_world


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
