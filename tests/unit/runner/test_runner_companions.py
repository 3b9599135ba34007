"""What comes home beside the model: small files that speak of the training, the newest, and never a reason to hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.artifacts import digest, manifest
from harness.core.errors import HostUnreachable
from harness.core.ids import Sha256
from harness.core.lifecycle import Stage
from harness.core.observed import CouldNotLook
from harness.core.ports import RemoteFile
from harness.runner import postdownload
from tests.support.context import Telling, World, make_world

EVENTS = "events.out.tfevents.1800000000.box.1.0"
ERRORS = (HostUnreachable, CouldNotLook, OSError, ValueError)


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A job whose trainer says nothing of its own; its checkpoints lie on the box."""
    world = make_world(tmp_path, monkeypatch, fast=True, training={"log": "trainer"})
    world.run(until=Stage.INSTALL)
    (world.box.root / "training.log").write_text("words")
    for trainer, steps in (("sft", (20, 100, 9)), ("dpo", (80,))):
        folder = world.box.root / world.job.checkpoint_folder(trainer)
        for step in steps:
            for name in ("adapter_model.safetensors", "trainer_state.json", "optimizer.pt", "ref/adapter_config.json"):
                path = folder / f"checkpoint-{step}" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{trainer} {step} {name}")
        (folder / EVENTS).write_text("a course")
    return world


def _companions(world: World) -> dict[str, Path]:
    folder = world.context().directory / "companions"
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def _bring(world: World) -> list[str]:
    telling = Telling()
    postdownload._bring_companions(world.context(), telling)
    return telling.notes


def test_of_an_unlisted_training_the_newest_checkpoints_small_files_come_home_and_are_listed(trained: World) -> None:
    assert _bring(trained) == []
    sft, dpo = (trained.job.checkpoint_folder(trainer) for trainer in ("sft", "dpo"))
    small = ("adapter_model.safetensors", "trainer_state.json")
    listed = {"training.log", *(f"{sft}/checkpoint-100/{name}" for name in small)}
    listed |= {f"{dpo}/checkpoint-80/{name}" for name in small}
    here = _companions(trained)
    assert here.keys() == {*listed, manifest.FOUND, f"{sft}/{EVENTS}", f"{dpo}/{EVENTS}"}
    assert json.loads(here[manifest.FOUND].read_text()) == {name: digest.of_file(here[name]).sha256 for name in listed}
    assert here[f"{sft}/checkpoint-100/trainer_state.json"].read_text() == "sft 100 trainer_state.json"


@pytest.mark.parametrize(("more", "comes"), [(0, True), (1, False)])
def test_trackers_files_are_bounded(trained: World, monkeypatch: pytest.MonkeyPatch, more: int, comes: bool) -> None:
    monkeypatch.setattr(postdownload, "_TRACKED_BYTES", 8)
    folder = trained.job.checkpoint_folder("dpo")
    (trained.box.root / folder / EVENTS).write_text("a course" + "x" * more)
    assert _bring(trained) == []
    assert (f"{folder}/{EVENTS}" in _companions(trained)) is comes


def test_of_trackers_files_no_more_than_so_many_come(trained: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postdownload, "_TRACKED", 1)
    assert _bring(trained) == []
    assert len([name for name in _companions(trained) if "tfevents" in name]) == 1


def test_without_a_checkpoint_the_log_comes_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, training={"log": "trainer"})
    world.run(until=Stage.INSTALL)
    (world.box.root / "training.log").write_text("words")
    for trainer in world.job.trainers:
        (world.box.root / world.job.checkpoint_folder(trainer) / "odd").mkdir(parents=True)
    assert _bring(world) == []
    assert _companions(world).keys() == {"training.log", manifest.FOUND}


@pytest.mark.parametrize("error", ERRORS)
def test_whatever_keeps_companions_on_the_box_is_told_and_holds_nothing(
    trained: World, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def breaks(*_: object) -> None:
        raise error("it broke")

    monkeypatch.setattr(postdownload, "_fetch_companions", breaks)
    assert _bring(trained) == ["the companions could not all be fetched: it broke"]


@pytest.mark.parametrize("error", ERRORS)
def test_a_trackers_file_that_stays_on_the_box_keeps_no_other_there(
    trained: World, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    tracked = [(RemoteFile(name, 1, Sha256("a" * 64)), Path(name)) for name in ("one", "two")]
    came: list[str] = []

    def fetch(_context: object, remote: RemoteFile, _local: Path) -> None:
        came.append(remote.path)
        if remote.path == "one":
            raise error("it broke")

    monkeypatch.setattr(postdownload, "_fetch_companions", lambda _: tracked)
    monkeypatch.setattr(postdownload, "_fetch_companion", fetch)
    assert _bring(trained) == ["a tracker's file stays on the box: it broke"]
    assert came == ["one", "two"]


@pytest.mark.parametrize("manifest_text", [None, " " * (manifest.MAX_MANIFEST_BYTES + 1)], ids=["none", "too long"])
def test_a_manifest_that_is_not_there_or_of_no_sane_size_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manifest_text: str | None
) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.run(until=Stage.TRAINING)
    path = world.box.root / "MANIFEST.json"
    path.unlink()
    if manifest_text is not None:
        path.write_text(manifest_text)
    (told,) = _bring(world)
    assert "the companions could not all be fetched: there is no " in told
    assert "MANIFEST.json of a sane size on the box" in told


def test_a_companion_that_is_here_is_not_fetched_again_and_another_takes_its_place(trained: World) -> None:
    assert _bring(trained) == []
    fetched: list[str] = []
    trained.box.on_fetch = lambda remote: fetched.append(Path(remote.path).name)
    assert _bring(trained) == []
    assert fetched == []
    (trained.box.root / "training.log").write_text("more words")
    assert _bring(trained) == []
    assert fetched == ["training.log"]
    assert _companions(trained)["training.log"].read_text() == "more words"
