"""The mirror beside the watch: what is sent for, in which order, what stays, and that it never stands in the way."""

from __future__ import annotations

import json
import shutil
import threading
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.core.errors import HostUnreachable, TransferFailed
from harness.core.lifecycle import Stage
from harness.core.observed import CouldNotLook
from harness.facts import training as training_facts
from harness.facts.mirror import RUN_FILE, mirrored, resumable
from harness.ledger.events import CheckpointMirrored
from harness.runner.checkpoint_mirror import Mirroring
from tests.support.context import Killed, ScriptedContext, Telling, World, make_world
from tests.support.scripted_world import BoxHost

PARTS = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = make_world(tmp_path, monkeypatch, fast=True)
    made.run(until=Stage.LAUNCH)
    made.box.hangs = 9  # it goes on training
    (made.box.root / RUN_FILE).write_text('{"seed": 7}')
    return made


def checkpoint(root: Path, trainer: str, step: int) -> Path:
    """A complete one, with a subfolder."""
    folder = root / "models/output" / trainer / f"checkpoint-{step}"
    (folder / "ref").mkdir(parents=True)
    header = json.dumps({"a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}).encode()
    weights = len(header).to_bytes(8, "little") + header + bytes([step % 256]) * 8
    for name in ("adapter_model.safetensors", "ref/adapter_model.safetensors"):
        (folder / name).write_bytes(weights)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    for name in PARTS:
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("x/data.pkl", b"x")
    return folder


def watch(world: World, looks: int = 6) -> Telling:
    """Some looks, each after what was under way has ended."""
    context, telling = world.context(), Telling()
    with Mirroring(context, telling) as mirroring:
        for _ in range(looks):
            mirroring.go_on(training_facts.glance(context))
            while mirroring.under_way:
                threading.Event().wait(0.01)
    return telling


def here(world: World) -> list[tuple[str, int]]:
    return [
        (one.trainer, one.step) for one in mirrored(world.home / "jobs" / world.job.name / "mirror", world.job.trainers)
    ]


def test_a_whole_checkpoint_comes_home_with_what_the_run_says_of_itself(world: World) -> None:
    there = checkpoint(world.box.root, "sft", 100)
    watch(world)
    home = world.home / "jobs" / world.job.name / "mirror/sft/checkpoint-100"
    names = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}
    assert names == {path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()} | {RUN_FILE}
    assert world.kinds().count(CheckpointMirrored) == 1


def test_with_the_adapter_alone_nothing_can_be_resumed_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, training={"mirror": "adapter"})
    world.run(until=Stage.LAUNCH)
    checkpoint(world.box.root, "sft", 100)
    watch(world)
    mirror = world.home / "jobs" / world.job.name / "mirror"
    assert sorted(path.name for path in (mirror / "sft/checkpoint-100").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "trainer_state.json",
    ]
    assert here(world) == [("sft", 100)]
    assert resumable(mirror, world.job) is None


def test_the_last_of_sft_comes_before_those_of_dpo(world: World) -> None:
    """A training on another box needs both; the two newest of each trainer stay."""
    for step in (100, 200, 300):
        checkpoint(world.box.root, "sft", step)
        watch(world, 2)
    checkpoint(world.box.root, "sft", 330)
    checkpoint(world.box.root, "dpo", 80)
    watch(world)
    told = [(one.trainer, one.step) for one in world.history.all(CheckpointMirrored)]
    assert told == [("sft", 100), ("sft", 200), ("sft", 300), ("sft", 330), ("dpo", 80)]
    assert here(world) == [("dpo", 80), ("sft", 300), ("sft", 330)]


def test_what_cannot_be_deleted_here_ends_no_watch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = world.home / "jobs" / world.job.name / "mirror" / "sft"
    mirror.mkdir(parents=True)
    (mirror / ".DS_Store").write_bytes(b"of a file manager")
    (mirror / "checkpoint-50.incoming").mkdir()

    def held(path: Path) -> None:
        raise PermissionError(f"{path} is open in another program")

    monkeypatch.setattr(shutil, "rmtree", held)
    checkpoint(world.box.root, "sft", 100)
    watch(world)
    assert here(world) == [("sft", 100)]
    assert (mirror / ".DS_Store").exists()


def test_files_that_cannot_be_written_to_are_deleted_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Windows has it: there a file that is read-only stays, and its folder with it."""
    deleted, real = list[str](), shutil.rmtree

    def rmtree(path: Path) -> None:
        if not all(one.stat().st_mode & 0o200 for one in path.rglob("*")):
            raise PermissionError("read-only")
        deleted.append(path.name)
        real(path)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    for step in (100, 200, 300):
        checkpoint(world.box.root, "sft", step)
        watch(world, 2)
        for path in world.home.rglob("checkpoint-*/**/*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
    assert deleted == ["checkpoint-100"]


def test_one_that_is_not_complete_is_passed_over(world: World) -> None:
    checkpoint(world.box.root, "sft", 100)
    (checkpoint(world.box.root, "sft", 200) / "optimizer.pt").unlink()
    watch(world)
    assert here(world) == [("sft", 100)]


def test_what_fails_is_told_and_tried_again(world: World) -> None:
    checkpoint(world.box.root, "sft", 100)
    (world.box.root / RUN_FILE).unlink()
    telling = watch(world, 2)
    assert any("could not be mirrored" in note for note in telling.notes)
    assert CheckpointMirrored not in world.kinds()
    (world.box.root / RUN_FILE).write_text("{}")
    watch(world, 2)
    assert here(world) == [("sft", 100)]


@dataclass(slots=True)
class _SlowHost(BoxHost):
    """A connection over which a checkpoint comes until it is called off, or is whole just then."""

    arrives: bool = False
    begun: threading.Event = field(default_factory=threading.Event)

    def mirror(
        self, files: Mapping[str, str], destination: Path, cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        del files
        self.begun.set()
        while not cancelled():
            threading.Event().wait(0.01)
        if not self.arrives:
            raise TransferFailed("called off")
        destination.mkdir(parents=True)


def test_the_watch_goes_on_beside_it_and_its_end_calls_it_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint(world.box.root, "sft", 100)
    host = _SlowHost(world.box, ())
    monkeypatch.setattr(ScriptedContext, "fresh_host", lambda _context: host)
    context, telling = world.context(), Telling()
    with Mirroring(context, telling) as mirroring:
        for _ in range(3):
            mirroring.go_on(training_facts.glance(context))
        assert host.begun.wait(120)
        assert mirroring.under_way
    assert not mirroring.under_way
    assert telling.notes == []
    assert CheckpointMirrored not in world.kinds()


@pytest.mark.parametrize(
    ("under_way", "appears", "called_off"),
    [
        (("dpo", 80), None, False),
        (("dpo", 60), ("dpo", 80), True),
        (("dpo", 60), ("dpo", 70), False),
        (("sft", 60), ("dpo", 80), False),
    ],
    ids=["the last itself", "an older one", "before one that is not the last", "another trainer's"],
)
def test_only_an_older_one_of_its_trainer_is_called_off_for_the_last(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    under_way: tuple[str, int],
    appears: tuple[str, int] | None,
    called_off: bool,
) -> None:
    there = checkpoint(world.box.root, *under_way)
    host = _SlowHost(world.box, ())
    ends, seen = threading.Event(), list[bool]()

    def mirror(self: _SlowHost, _files: object, _destination: Path, cancelled: Callable[[], bool]) -> None:
        self.begun.set()
        ends.wait(120)
        seen.append(cancelled())

    monkeypatch.setattr(_SlowHost, "mirror", mirror)
    monkeypatch.setattr(ScriptedContext, "fresh_host", lambda _context: host)
    context = world.context()
    with Mirroring(context, Telling()) as mirroring:
        mirroring.go_on(training_facts.glance(context))
        assert host.begun.wait(120)
        if appears is not None:
            shutil.rmtree(there)  # a training keeps only some
            checkpoint(world.box.root, *appears)
        mirroring.go_on(training_facts.glance(context))
        ends.set()
        while mirroring.under_way:
            threading.Event().wait(0.001)
    assert seen == [called_off]


@pytest.mark.parametrize("error", [HostUnreachable, CouldNotLook, OSError, ValueError])
def test_whatever_goes_wrong_on_the_way_is_told_and_leaves_no_connection_open(
    world: World, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    checkpoint(world.box.root, "sft", 100)
    closed: list[BoxHost] = []

    def breaks(*_: object) -> None:
        raise error("it broke")

    def close(host: BoxHost) -> None:
        closed.append(host)

    monkeypatch.setattr(BoxHost, "mirror", breaks)
    monkeypatch.setattr(BoxHost, "close", close)
    telling = watch(world, 2)
    assert telling.notes == ["the checkpoint of sft step 100 could not be mirrored: it broke"] * 2
    assert len(closed) == 2


def test_one_that_came_nowhere_is_told_and_not_recorded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint(world.box.root, "sft", 100)
    monkeypatch.setattr(BoxHost, "mirror", lambda *_: None)
    telling = watch(world, 1)
    assert telling.notes == ["the checkpoint of sft step 100 could not be mirrored: it did not arrive"]
    assert CheckpointMirrored not in world.kinds()


def test_a_watch_that_ends_by_an_error_records_nothing_more(world: World) -> None:
    checkpoint(world.box.root, "sft", 100)
    context = world.context()

    def look() -> None:
        with Mirroring(context, Telling()) as mirroring:
            mirroring.go_on(training_facts.glance(context))
            while mirroring.under_way:
                threading.Event().wait(0.001)
            raise Killed

    with pytest.raises(Killed):
        look()
    assert CheckpointMirrored not in world.kinds()
    assert here(world) == [("sft", 100)]


def test_what_came_home_while_it_was_called_off_is_recorded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint(world.box.root, "sft", 100)
    host = _SlowHost(world.box, (), arrives=True)
    monkeypatch.setattr(ScriptedContext, "fresh_host", lambda _context: host)
    context = world.context()
    with Mirroring(context, Telling()) as mirroring:
        mirroring.go_on(training_facts.glance(context))
        assert host.begun.wait(120)
    assert world.kinds().count(CheckpointMirrored) == 1


def test_a_box_that_cannot_be_reached_stops_no_watch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint(world.box.root, "sft", 100)
    seen = training_facts.glance(world.context())

    def unreachable(_context: ScriptedContext) -> BoxHost:
        raise HostUnreachable("the provider shows no instance")

    monkeypatch.setattr(ScriptedContext, "fresh_host", unreachable)
    telling = Telling()
    with Mirroring(world.context(), telling) as mirroring:
        mirroring.go_on(seen)
    assert "shows no instance" in telling.notes[0]


def test_a_mirrored_checkpoint_that_was_damaged_here_is_passed_over(world: World) -> None:
    for step in (100, 200):
        checkpoint(world.box.root, "sft", step)
        watch(world, 2)
    mirror = world.home / "jobs" / world.job.name / "mirror"
    newest = resumable(mirror, world.job)
    assert newest is not None
    assert newest.steps == {"sft": 200}
    assert RUN_FILE in newest.files
    assert "models/output/sft/checkpoint-200/ref/adapter_model.safetensors" in newest.files
    (mirror / "sft/checkpoint-200/optimizer.pt").write_bytes(b"torn")
    older = resumable(mirror, world.job)
    assert older is not None
    assert older.steps == {"sft": 100}


def test_checkpoints_of_dpo_are_of_no_use_without_the_last_of_sft(world: World) -> None:
    checkpoint(world.box.root, "sft", 330)
    checkpoint(world.box.root, "dpo", 40)
    watch(world)
    mirror = world.home / "jobs" / world.job.name / "mirror"
    both = resumable(mirror, world.job)
    assert both is not None
    assert both.steps == {"sft": 330, "dpo": 40}
    (mirror / "sft/checkpoint-330/trainer_state.json").unlink()
    assert resumable(mirror, world.job) is None


def test_the_very_last_checkpoint_leaves_nothing_to_judge_and_is_not_gone_on_from(world: World) -> None:
    checkpoint(world.box.root, "sft", 330)
    checkpoint(world.box.root, "dpo", 80)
    watch(world)
    newest = resumable(world.home / "jobs" / world.job.name / "mirror", world.job)
    assert newest is not None
    assert newest.steps == {"sft": 330}


def test_what_came_home_before_the_end_of_the_watch_is_recorded(world: World) -> None:
    checkpoint(world.box.root, "sft", 100)
    watch(world, 1)
    assert world.kinds().count(CheckpointMirrored) == 1


def test_of_the_last_checkpoint_of_all_the_weights_come_home_and_nothing_that_only_a_resume_needs(world: World) -> None:
    """Nothing is trained on from it: two thirds of the bytes stay, and the adapter is here when the export ends."""
    checkpoint(world.box.root, "sft", 330)
    checkpoint(world.box.root, "dpo", 80)
    watch(world)
    home = world.home / "jobs" / world.job.name / "mirror"
    assert not (home / "dpo/checkpoint-80/optimizer.pt").exists()
    assert (home / "dpo/checkpoint-80/adapter_model.safetensors").is_file()
    assert (home / "sft/checkpoint-330/optimizer.pt").is_file(), "a training goes on from that one"


def test_the_last_weights_go_before_an_older_checkpoint_that_is_on_its_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(world.box.root, "dpo", 60)
    real, came, called_off = BoxHost.mirror, list[str](), threading.Event()

    def slow(
        self: BoxHost, files: Mapping[str, str], destination: Path, cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        while destination.name == "checkpoint-60" and not cancelled():
            threading.Event().wait(0.01)
        came.append(f"{destination.name}{' called off' * cancelled()}")
        called_off.set()
        real(self, files, destination, cancelled)

    monkeypatch.setattr(BoxHost, "mirror", slow)
    context, telling = world.context(), Telling()
    with Mirroring(context, telling) as mirroring:
        mirroring.go_on(training_facts.glance(context))
        mirroring.go_on(training_facts.glance(context))
        assert not called_off.is_set(), "an older one is left alone until the last one is there"
        checkpoint(world.box.root, "dpo", 80)
        mirroring.go_on(training_facts.glance(context))
        assert called_off.wait(120)
        for _ in range(200):
            mirroring.go_on(training_facts.glance(context))
            if len(came) == 2 and not mirroring.under_way:
                break
            threading.Event().wait(0.01)
    assert came == ["checkpoint-60 called off", "checkpoint-80"]
    assert not telling.notes or "could not be mirrored" not in " ".join(telling.notes)


def test_a_companion_that_came_home_with_its_checkpoint_is_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.run(until=Stage.LAUNCH)
    mirror = world.home / "jobs" / world.job.name / "mirror" / "dpo"
    for folder, data in (("checkpoint-80.incoming", b"{}"), ("checkpoint-60", b"{x"), ("checkpoint-40", b"longer")):
        (mirror / folder).mkdir(parents=True)
        (mirror / folder / "adapter_config.json").write_bytes(data)
    fetched: list[str] = []
    world.box.on_fetch = lambda remote: fetched.append(remote.path.rpartition("/")[2])
    world.run()
    assert world.history.closed
    (home,) = world.home.rglob("companions/**/adapter_config.json")
    assert home.read_bytes() == b"{}"
    assert "run.json" in fetched
    assert "adapter_config.json" not in fetched
