"""A tracker's files come home where they can and hold nothing; a key is on the box only when the job file names it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.errors import BadInput, HostUnreachable
from harness.core.lifecycle import Stage
from harness.core.ports import RemoteFile
from harness.facts import postdownload as looking
from harness.job.model import TrainingTable
from harness.remote.session import TrainingSession
from harness.runner import training
from tests.support.context import Telling, World, make_world
from tests.support.job_histories import job
from tests.support.local_box import LocalBox

EVENTS = "models/output/runs/sft/events.out.tfevents.1800000000.box.123.0"
KEY = "WANDB_API_KEY"
SECRET = "0123456789abcdef-never-to-be-seen"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = make_world(tmp_path, monkeypatch, fast=True)
    made.run(until=Stage.TRAINING)
    events = made.box.root / EVENTS
    events.parent.mkdir(parents=True)
    events.write_bytes(b"a course")
    file = made.box.root / "MANIFEST.json"
    told = json.loads(file.read_text())
    digest = hashlib.sha256(b"a course").hexdigest()
    told["files"].append({"path": EVENTS, "kind": "tracker", "bytes": 8, "sha256": digest})
    file.write_text(json.dumps(told))
    return made


def _here(world: World) -> Path:
    return world.context().directory / "companions" / EVENTS


def test_a_trackers_file_comes_home(world: World) -> None:
    world.run(until=Stage.POSTDOWNLOAD)
    assert _here(world).read_bytes() == b"a course"


@pytest.mark.parametrize("how", ["cut", "changed", "gone"])
def test_one_that_cannot_come_holds_nothing_and_is_told(world: World, how: str) -> None:
    def fail(remote: RemoteFile) -> None:
        if remote.path.endswith(EVENTS):
            raise HostUnreachable("cut")

    if how == "cut":
        world.box.on_fetch = fail
    elif how == "changed":
        (world.box.root / EVENTS).write_bytes(b"a longer course")
    else:
        (world.box.root / EVENTS).unlink()
    told = world.run(until=Stage.POSTDOWNLOAD)
    assert any("a tracker's file stays on the box" in note for note in told.notes)
    assert not any("companions could not all be fetched" in note for note in told.notes)
    found = looking._companions(world.context())
    assert found.problems == ()
    assert found.verified > 0
    world.run()
    assert world.history.closed


def test_a_file_that_is_no_trackers_is_still_required(world: World) -> None:
    world.run(until=Stage.POSTDOWNLOAD)
    (world.context().directory / "companions" / "run.json").unlink()
    assert looking._companions(world.context()).problems


def test_a_variable_that_the_job_names_and_nobody_set_is_said_before_anything_is_rented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.runner.first_look import first_look

    monkeypatch.delenv(KEY, raising=False)
    world = make_world(tmp_path, monkeypatch, fast=True, training={"environment": [KEY]})
    world.open()
    with pytest.raises(BadInput, match=f"training.environment names {KEY}"):
        first_look(world.context(), Telling())
    assert world.provider.count("rent") == 0


def test_only_what_the_job_names_is_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, SECRET)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    assert training.carried(job()) == ({}, ())
    assert training.carried(job(training={"environment": (KEY, "HF_HOME_X")})) == ({KEY: SECRET}, ("HF_HOME_X",))


def test_a_key_reaches_the_training_and_nothing_that_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, SECRET)
    world = make_world(tmp_path, monkeypatch, fast=True, training={"environment": [KEY]})
    got: list[Any] = []
    begin = TrainingSession.start

    def start(self: TrainingSession, argv: Any, env: Any = None, job: Any = None) -> bool:
        got.append((tuple(argv), dict(env or {})))
        assert KEY not in str(job)
        return begin(self, argv, env, job)

    monkeypatch.setattr(TrainingSession, "start", start)
    world.run()
    assert got
    assert all((KEY in given) == (argv == tuple(world.job.training.command)) for argv, given in got)
    assert SECRET in {given.get(KEY) for _, given in got}
    kept = [path for path in world.home.rglob("*") if path.is_file() and not path.is_symlink()]
    assert kept
    assert not [path for path in kept if SECRET.encode() in path.read_bytes()]
    assert all(SECRET not in str(record) for record in world.history.records)


def test_the_launcher_that_holds_it_is_its_owners_alone(tmp_path: Path) -> None:
    box = LocalBox(tmp_path)
    host: Any = SimpleNamespace(run=partial(box.run, limit=1 << 20))
    session = TrainingSession(host, "work", name=f"t{os.getpid()}")
    (tmp_path / "work" / ".harness").mkdir(parents=True)
    (tmp_path / "work" / ".harness" / "launch.sh").touch(mode=0o644)
    session.start(("sh", "-c", f'printf "%s" "${KEY}" > got'), {KEY: SECRET})
    while not (tmp_path / "work" / ".harness" / "exit_status").exists():
        subprocess.run(["true"], check=True)
    assert (tmp_path / "work" / "got").read_text() == SECRET
    assert (tmp_path / "work" / ".harness" / "launch.sh").stat().st_mode & 0o077 == 0
    assert SECRET not in (tmp_path / "work" / "training.log").read_text()


@pytest.mark.parametrize("name", ["wandb_api_key", "WANDB_API_KEY=abc", "", "A B", "1A", "X" * 81, "PATH\n"])
def test_a_value_or_an_odd_name_is_refused(name: str) -> None:
    told = job().training.model_dump()
    with pytest.raises(ValueError, match="environment"):
        TrainingTable.model_validate({**told, "environment": [name]})
