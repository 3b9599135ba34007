"""Looks of a job under way, over a scripted world: each tells what lies there, and by whose clock."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts.adapter import inspect as inspect_adapter
from harness.core.answers import Tree
from harness.core.ids import InstanceId
from harness.core.lifecycle import Stage
from harness.core.observed import CouldNotLook, seen
from harness.core.ports import Account, PendingPrice
from harness.core.questions import Answers, CheckpointsIn, Question
from harness.facts import finals, launch, posttrain, preflight_smoke, training, upload
from harness.facts.upload import Difference
from harness.ledger.settled import StrategySettled
from harness.log.grammar import DPO, SFT
from tests.support.checkpoint_files import write_checkpoint
from tests.support.context import World, make_world
from tests.support.scripted_world import BoxHost

SCRIPT = "train_deepseek_forex.py"
INSTANCE = InstanceId(4711)
SETTLED = StrategySettled("fsdp", "fsdp", "6.4 times as fast", "ab")


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


def test_what_a_training_writes_beside_the_package_is_no_stray_file(world: World) -> None:
    world.run(until=Stage.UPLOAD)
    for name in ("training.log", "models/output/sft/checkpoint-1/x", "models/base/config.json", ".harness/note"):
        (world.box.root / name).parent.mkdir(parents=True, exist_ok=True)
        (world.box.root / name).touch()
    assert upload.look(world.context()).difference.get().unexpected == ()


def test_what_lies_there_is_read_from_there(world: World) -> None:
    world.run(until=Stage.UPLOAD)
    (world.box.root / SCRIPT).write_text('BATCH_SIZE = 16\nload(device_map="auto")\n')
    rows = world.box.root / world.job.data.paths["features"]
    rows.write_text("{}\n\n  \n{}\n{}")
    told = upload.look(world.context())
    assert told.script_batch_size.get() == 16
    assert told.script_device_maps.get() == ("auto",)
    assert told.counts.get() == {"features": 3, "scenarios": 1, "pairs": 1}
    rows.unlink()
    assert upload.look(world.context()).counts.problem == "the file of features is not on the box"


@pytest.mark.parametrize(
    ("text", "problem"),
    [(None, "the entry script is not on the box"), ("#" * (1 << 19), "the entry script is too large to read: 524288")],
)
def test_a_script_that_is_not_there_or_not_whole_was_not_read(text: str | None, problem: str, world: World) -> None:
    world.run(until=Stage.UPLOAD)
    (world.box.root / SCRIPT).write_text(text or "")
    if text is None:
        (world.box.root / SCRIPT).unlink()
    told = upload.look(world.context())
    for one in (told.script_batch_size, told.script_device_maps):
        assert (one.problem or "").startswith(problem)


def test_a_trainers_state_that_no_checkpoint_left_could_not_be_looked_at(world: World) -> None:
    world.open()
    context = world.context()
    with pytest.raises(CouldNotLook, match=r"no checkpoint of sft left a trainer_state\.json here"):
        posttrain._state(context, "sft")
    for step, told in ((100, "{"), (200, '{"global_step": 200, "max_steps": 330, "log_history": []}')):
        kept = context.directory / "companions" / context.job.checkpoint_folder("sft") / f"checkpoint-{step}"
        kept.mkdir(parents=True)
        (kept / "trainer_state.json").write_text(told)
    (kept.parent / "checkpoint-300").mkdir()
    assert posttrain._state(context, "sft").step == 200


@pytest.mark.parametrize("predict", [True, False])
def test_an_adapter_is_held_against_its_base_where_the_plan_does_that(predict: bool, world: World) -> None:
    job = world.job.model_copy(update={"artifact": world.job.artifact.model_copy(update={"predict": predict})})
    world.job = job
    world.open()
    home = world.context().directory / "companions" / finals.adapter(job)
    home.mkdir(parents=True)
    (home / "adapter_config.json").write_text(json.dumps({"r": 4, "target_modules": ["q_proj"]}))
    entry = {
        "base_model.model.layers.0.q_proj.lora_A.weight": {"dtype": "F32", "shape": [4, 7], "data_offsets": [0, 112]}
    }
    header = json.dumps(entry).encode()
    (home / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\x01" * 112)
    told = posttrain._adapter(world.context(), None)
    assert told == inspect_adapter(home, finals.base_config(job, None) if predict else None, base_matters=predict)
    assert told != inspect_adapter(home, None if predict else finals.base_config(job, None), base_matters=not predict)


def test_terms_are_told_by_the_providers_clock_where_it_tells_the_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run(until=Stage.LAUNCH)
    world.clock.set(3600.0)
    assert training.look(world.context()).terms.get().now == world.clock.true()
    monkeypatch.setattr(type(world.market), "account", lambda market: Account(market.user, 100.0, None))
    assert training.look(world.context()).terms.get().now == world.clock.now() != world.clock.true()


def test_the_terms_are_those_that_were_agreed_and_those_that_are_shown_now(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    world.market.change(INSTANCE, usd_per_hour=17.5, ends_at=9e9)
    world.market.pending[INSTANCE] = (PendingPrice(20.0, 9e9, None),)
    assert training.look(world.context()).terms.get() == training.Terms(
        world.clock.true(), 17.5, 15.9, 9e9, (PendingPrice(20.0, 9e9, None),)
    )
    world.market.rented.clear()
    assert training.look(world.context()).terms.problem == "the provider shows no instance 4711"


def test_before_the_launch_no_time_has_passed_since_it(world: World) -> None:
    world.run(until=Stage.UPLOAD)
    assert training.glance(world.context()).since_launch_s == launch.look(world.context()).since_launch_s == 0.0
    world.run(until=Stage.LAUNCH)
    world.clock.turn(90)
    assert training.glance(world.context()).since_launch_s == launch.look(world.context()).since_launch_s >= 90


def test_what_was_spent_is_the_paid_time_at_the_agreed_price(world: World) -> None:
    world.open()
    assert training.glance(world.context()).spent_usd == 0.0
    world.run(until=Stage.LAUNCH)
    before = training.glance(world.context()).spent_usd
    world.clock.turn(3600)
    assert training.glance(world.context()).spent_usd == pytest.approx(before + 15.9)


def test_a_checkpoint_that_was_found_whole_is_not_read_to_its_end_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run(until=Stage.LAUNCH)
    folder = world.box.root / world.job.checkpoint_folder(SFT)
    write_checkpoint(folder, 100)
    (write_checkpoint(folder, 200) / "optimizer.pt").unlink()
    first = training.glance(world.context())
    whole, broken = first.checkpoints["sft"].get()
    assert (whole.problems, broken.problems) == ((), ("optimizer.pt is missing",))
    asked: list[Question[Any]] = []
    probe = BoxHost.probe

    def listening(host: BoxHost, questions: Sequence[Question[Any]], *, timeout: float = 120.0) -> Answers:
        asked.extend(questions)
        return probe(host, questions, timeout=timeout)

    monkeypatch.setattr(BoxHost, "probe", listening)
    training.glance(world.context(), first)
    known = {one.path: one.known for one in asked if isinstance(one, CheckpointsIn)}
    assert known == {str(folder): (whole.seal,), str(world.box.root / world.job.checkpoint_folder(DPO)): ()}


def test_a_launch_shows_the_line_that_proves_the_rows_and_the_strategy_that_was_settled(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    told = launch.look(world.context())
    assert (told.proof.get().count, told.used) == (1, "seeds")
    assert dataclasses.replace(told, strategy=seen(SETTLED)).used == "fsdp"
    world.change(data={"proof_line": None})
    assert launch.look(world.context()).proof.problem == "the job states no proof line"


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
