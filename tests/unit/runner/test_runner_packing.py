"""The package is snapshotted once, sent as the snapshot says, and made ready by its own commands, whose end is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import HostUnreachable, TransferFailed
from harness.core.lifecycle import Stage
from harness.core.ports import RunResult
from harness.facts.mirror import MIRROR
from harness.job.staging import package_files
from harness.ledger.events import Installed, Launched, Resumes, Staged, Uploaded
from harness.runner import package
from tests.support.context import Telling, World, make_world
from tests.support.scripted_world import BoxHost


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(tmp_path, monkeypatch, fast=True, package={"fetch_option": ""})


def test_a_snapshot_is_recorded_once_and_again_when_the_package_has_changed(world: World) -> None:
    world.open()
    for _ in range(2):
        package.preflight(world.context(), telling := Telling())
        assert telling.notes == ["staging the package and its data"]
    assert world.kinds().count(Staged) == 1
    (world.job.package.source / "requirements.txt").write_text("numpy\n")
    package.preflight(world.context(), Telling())
    first, second = world.history.all(Staged)
    assert first.files.keys() == second.files.keys()
    assert {name for name in first.files if first.files[name] != second.files[name]} == {"requirements.txt"}


def test_without_a_snapshot_nothing_is_sent(world: World) -> None:
    world.open()
    with pytest.raises(TransferFailed, match="no package was staged"):
        package.upload(world.context(), Telling())
    assert Uploaded not in world.kinds()


def test_what_is_sent_is_the_snapshot_and_its_number_of_files_is_recorded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[str, int, int]] = []
    monkeypatch.setattr(
        Telling, "meter", lambda _, meter, done, total, _detail="": shown.append((meter.name, done, total))
    )
    world.run(until=Stage.UPLOAD)
    staged = world.history.staged
    assert staged is not None
    assert world.history.all(Uploaded) == (Uploaded(len(staged.files)),)
    there = {name for name, _ in package_files(world.box.root) if not name.startswith(".harness")}
    assert there == set(staged.files)
    total = sum((world.context().directory / "package" / name).stat().st_size for name in staged.files)
    assert ("upload", total, total) in shown


@pytest.mark.parametrize(("status", "said"), [(0, None), (1, "no such package"), (137, "no such package")])
@pytest.mark.parametrize("where", ["stderr", "stdout"])
def test_how_an_installation_ended_is_recorded_and_its_last_words_are_told_where_it_did_not_work(
    world: World, monkeypatch: pytest.MonkeyPatch, status: int, said: str | None, where: str
) -> None:
    world.run(until=Stage.UPLOAD)
    real, timeouts = BoxHost.run, list[float]()

    def run(self: BoxHost, argv: tuple[str, ...], **named: object) -> RunResult:
        if "pip" not in argv:
            return real(self, argv, **named)  # type: ignore[arg-type]
        assert argv[4] == world.job.package.remote_dir
        timeouts.append(float(str(named["timeout"])))
        words = b"x" * 999 + b"no such package"
        return RunResult(status, *((b"", words) if where == "stderr" else (words, b"")))

    world.box.ahead_status = 1  # what was begun beside the upload has failed
    monkeypatch.setattr(BoxHost, "run", run)
    telling = Telling()
    package.install(world.context(), telling, 100.0)
    package.install(world.context(), telling, 1e9)
    assert world.history.all(Installed) == (Installed(status),) * 2
    told = [note for note in telling.notes if "ended with status" in note]
    assert len(told) == (0 if said is None else 2)
    assert all(f"status {status}: x" in note and note.endswith(said or "") and len(note) < 800 for note in told)
    assert timeouts == [100.0, world.job.package.install_timeout_s]


def test_an_installation_that_never_ends_is_cut_at_its_time(world: World) -> None:
    world.run(until=Stage.UPLOAD)
    world.box.ahead_status, world.box.command_s = 1, 1e6
    began = world.clock.monotonic()
    with pytest.raises(HostUnreachable):
        package.install(world.context(), Telling(), 100.0)
    assert world.clock.monotonic() - began <= 200
    assert Installed not in world.kinds()


@pytest.mark.parametrize(("launched", "aside"), [(False, True), (True, False)])
def test_a_mirror_that_no_launch_of_this_job_left_is_kept_aside(world: World, launched: bool, aside: bool) -> None:
    """It is of another run under this name; what was launched before goes on in its own."""
    world.run(until=Stage.INSTALL)
    mirror = world.context().directory / MIRROR
    mirror.mkdir()
    (mirror / "sft").write_text("old")
    if launched:
        world.context().record(Launched(("python3",), "launch"))
    package.upload(world.context(), telling := Telling())
    moved = [path for path in mirror.parent.iterdir() if path.name.startswith(f"{MIRROR}-of-earlier-")]
    assert (len(moved), mirror.exists()) == ((1, False) if aside else (0, True))
    told = [note for note in telling.notes if "checkpoints of an earlier instance are kept in" in note]
    assert told == [f"checkpoints of an earlier instance are kept in {path.name}" for path in moved]
    assert Resumes not in world.kinds()


def test_the_training_of_the_package_before_is_stopped_before_the_next_is_sent(world: World) -> None:
    world.box.takes = 10**6
    world.run(until=Stage.LAUNCH)
    package.upload(world.context(), telling := Telling())
    assert world.box.stops == 1
    assert "the training was stopped: its package has changed" in telling.notes
    assert world.kinds().count(Uploaded) == 2
