"""Looks of a job under way, over a scripted world: each tells what lies there, and by whose clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.core.answers import Tree
from harness.core.lifecycle import Stage
from harness.core.observed import CouldNotLook
from harness.core.ports import Account
from harness.facts import posttrain, preflight_smoke, training, upload
from harness.facts.upload import Difference
from tests.support.context import World, make_world

SCRIPT = "train_deepseek_forex.py"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(tmp_path, monkeypatch, fast=True)


def test_what_was_sent_is_held_against_what_lies_there(world: World) -> None:
    world.open()
    with pytest.raises(CouldNotLook, match="no package was staged"):
        upload._difference(world.context(), Tree(exists=True, entries=()))
    world.run(until=Stage.UPLOAD)
    sent = upload.look(world.context()).difference.get()
    assert sent == Difference(len(world.history.staged.files if world.history.staged else {}), (), (), ())
    (world.box.root / SCRIPT).write_text("# another\n")
    (world.box.root / "stray.py").touch()
    assert upload.look(world.context()).difference.get() == Difference(sent.same - 1, (), (SCRIPT,), ("stray.py",))
    (world.box.root / SCRIPT).unlink()
    assert upload.look(world.context()).difference.get() == Difference(sent.same - 1, (SCRIPT,), (), ("stray.py",))


def test_a_trainers_state_that_no_checkpoint_left_could_not_be_looked_at(world: World) -> None:
    world.open()
    context = world.context()
    with pytest.raises(CouldNotLook, match=r"no checkpoint of sft left a trainer_state\.json here"):
        posttrain._state(context, "sft")
    for step, told in ((100, "{"), (200, '{"global_step": 200, "max_steps": 330, "log_history": []}')):
        kept = context.directory / "companions" / context.job.checkpoint_folder("sft") / f"checkpoint-{step}"
        kept.mkdir(parents=True)
        (kept / "trainer_state.json").write_text(told)
    assert posttrain._state(context, "sft").step == 200


def test_terms_are_told_by_the_providers_clock_where_it_tells_the_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run(until=Stage.LAUNCH)
    world.clock.set(3600.0)
    assert training.look(world.context()).terms.get().now == world.clock.true()
    monkeypatch.setattr(type(world.market), "account", lambda market: Account(market.user, 100.0, None))
    assert training.look(world.context()).terms.get().now == world.clock.now() != world.clock.true()


def test_a_package_that_is_not_staged_could_not_be_tried(world: World, tmp_path: Path) -> None:
    with pytest.raises(CouldNotLook, match="not staged yet"):
        preflight_smoke.run(world.job, tmp_path / "none", tmp_path / "scratch")


TOLD: dict[str, Any] = {
    "batch_size": 8,
    "device_map": "auto",
    "world_size": 1,
    "checkpoint_every": 100,
    "model": {"name": "m"},
    "rows_a_step": {"sft": 8},
}


@pytest.mark.parametrize(
    "changed",
    [
        {"batch_size": "many"},
        {"batch_size": None},
        {"model": None},
        {"model": {}},
        {"rows_a_step": [8]},
        {"rows_a_step": {"sft": "eight"}},
    ],
)
def test_a_smoke_run_that_tells_its_plan_oddly_tells_none(changed: dict[str, Any]) -> None:
    told = preflight_smoke._resolved(TOLD)
    assert told is not None
    assert (told.batch_size, told.model, told.rows_a_step) == (8, "m", {"sft": 8})
    assert preflight_smoke._resolved(TOLD | changed) is None
