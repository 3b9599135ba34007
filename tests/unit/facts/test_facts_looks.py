"""Looks of a job under way, over a scripted world: each tells what lies there, and by whose clock."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
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
from harness.facts.checkpoints import complete_steps, due_steps, in_order, of_job, problems
from harness.facts.upload import Difference
from harness.ledger.settled import StrategySettled
from harness.log.grammar import DPO, SFT
from tests.support.checkpoint_files import tensors, write_checkpoint
from tests.support.context import World, make_world
from tests.support.facts import BOX, PLAN, V2, checkpoint, log, sound_job, step_lines, whole_log
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


def test_a_finished_gguf_is_looked_at_as_a_file(world: World) -> None:
    world.run(until=Stage.POSTTRAIN)
    (world.box.artifact.parent / "next.gguf.partial").write_bytes(b"GG")
    told, artifact = posttrain.look(world.context()), world.history.artifact
    assert told.recorded.get() == artifact is not None
    assert [one.path for one in told.finals.get()] == [str(world.box.artifact)]
    assert [one.path for one in told.unfinished.get()] == [str(world.box.artifact.parent / "next.gguf.partial")]
    assert (told.manifest.get().exists, told.run.get().json, told.run_json) == (True, {}, {})
    assert told.completion.get().count == 1
    assert told.at_work.get() == ()
    assert told.predicted_bytes.get() > 7_000_000_000
    assert told.weights.problem == told.config.problem == "the artifact is no folder of safetensors"
    assert told.states == {}
    assert "GGUF" in (told.gguf.problem or "") or told.gguf.value is not None
    world.box.processes = [{"pid": 9, "ppid": 1, "state": "R", "argv": ["python3", "x.py"], "cwd": "/x", "env": {}}]
    assert posttrain.look(world.context()).at_work.get() == ("9 python3 x.py",)


@pytest.mark.parametrize(("kind", "config"), [("merged", "config"), ("adapter", "adapter_config")])
def test_a_finished_folder_is_looked_at_as_a_folder(
    kind: str, config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, weights = "models/output/folder", f"{config.removesuffix('config')}model.safetensors"
    world = make_world(tmp_path, monkeypatch, fast=True, artifact={"kind": kind, "remote_dir": place, "floor": 1})
    tensors(tmp_path / "x", ("a", "U8", [4], b"four"))
    world.box.leaves = {
        f"{place}/{config}.json": b'{"told": 1}',
        f"{place}/{weights}": (tmp_path / "x").read_bytes(),
        f"{place}/sub/b.json": b"{}",
    }
    world.run(until=Stage.POSTTRAIN)
    (world.box.root / place / "c.partial").write_bytes(b"GG")
    told = posttrain.look(world.context())
    assert {Path(one.path).name for one in told.finals.get()} == {f"{config}.json", weights, "b.json"}
    assert [Path(one.path).name for one in told.unfinished.get()] == ["c.partial"]
    assert told.config.get().json == {"told": 1}
    assert told.weights.value is not None
    assert told.gguf.problem == told.predicted_bytes.problem == "the artifact is no GGUF"


def test_steps_that_are_left_take_as_long_as_was_planned_until_the_log_tells_a_pace() -> None:
    job = sound_job()
    planned = sum(job.training.steps[one] * job.limits.s_per_step[one] for one in job.trainers)
    assert training.steps_left_s(job, log()) == pytest.approx(planned)
    done = log(*whole_log())
    assert training.steps_left_s(job, done) == 0.0
    half = log(V2, PLAN, *step_lines("sft", 1, 165, pace=8.8))
    assert training.steps_left_s(job, half) > planned / 2 + 165 * 4.0


@pytest.mark.parametrize("unmodified", [True, False])
def test_of_an_unmodified_trainer_the_launch_looks_for_the_first_ones_checkpoints(
    unmodified: bool, tmp_path: Path
) -> None:
    asked: list[Question[Any]] = []

    def probe(questions: Sequence[Question[Any]], *, timeout: float) -> Answers:
        del timeout
        asked.extend(questions)
        return Answers({one: seen(()) for one in questions if isinstance(one, CheckpointsIn)})

    job = sound_job(training={"log": "trainer"} if unmodified else {}, package={"source": tmp_path})
    history = SimpleNamespace(launched_at=None, strategy=None, staged=None)
    host, clock = SimpleNamespace(probe=probe), SimpleNamespace(now=lambda: 5.0)
    context: Any = SimpleNamespace(job=job, history=history, clock=clock, host=lambda: host)
    told = launch.look(context)
    folders = [one.path for one in asked if isinstance(one, CheckpointsIn)]
    assert folders == ([f"{BOX}/{job.checkpoint_folder(SFT)}"] if unmodified else [])
    assert (told.checkpoints.problem is None) is unmodified


def test_a_base_is_what_the_job_states_and_for_the_rest_what_the_run_says() -> None:
    job = sound_job(model={"hidden_size": 7})
    run = {"model": {"config": {"hidden_size": 8, "rope_theta": 1e4}}}
    told = finals.base_config(job, run)
    assert (told["hidden_size"], told["rope_theta"]) == (7, 1e4)
    assert finals.base_config(job, None) == finals.base_config(job, {"model": [1]})


@pytest.mark.parametrize(
    ("last", "every", "total", "due"),
    [
        (0, 100, 330, ()),
        (99, 100, 330, ()),
        (100, 100, 330, (100,)),
        (329, 100, 330, (100, 200, 300)),
        (330, 100, 330, (100, 200, 300, 330)),
        (300, 100, 300, (100, 200, 300)),
        (50, 100, 50, (50,)),
    ],
)
def test_a_checkpoint_is_due_every_so_many_steps_and_at_the_last(
    last: int, every: int, total: int, due: tuple[int, ...]
) -> None:
    assert due_steps(last, every, total) == due


def test_only_what_can_be_gone_on_from_is_complete() -> None:
    broken: list[dict[str, Any]] = [{"problems": ("x",)}, {"unread": ("y", "y")}, {"unfit": ("z",)}]
    found = [checkpoint("sft", 400, **one) for one in broken]
    found += [checkpoint("sft", step) for step in (300, 100)]
    assert complete_steps(found) == (100, 300)
    assert [one.step for one in in_order(found)] == [100, 300, 400, 400, 400]
    assert [problems(one) for one in found[:3]] == [("x",), ("y",), ("z",)]
    whole = checkpoint("sft", 100, files={"model.safetensors": 1})
    (lacks,) = of_job(sound_job(), [whole])
    assert lacks.problems == ("adapter_model.safetensors is missing",)
    assert of_job(sound_job(model={"lora_r": 0, "lora_alpha": 0}), [whole]) == (whole,)
    assert of_job(sound_job(), found) == tuple(found)
