"""Installation and base model begin while the package is on its way: the longest counts, and nothing rests on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import HostUnreachable, LeaseLost
from harness.core.lifecycle import Stage
from harness.core.observed import CouldNotLook
from harness.ledger import billing, paid_parts
from harness.ledger.events import Installed, Uploaded
from harness.ledger.kinds import JobEvent
from harness.ledger.noted import BaseFetched, ImageHad
from harness.remote.session import LOG, TrainingSession
from harness.runner import ahead
from tests.support.context import Killed, Telling, World, make_world
from tests.support.scripted_world import BoxHost

PIP = "python3 -m pip install -r requirements.txt"
FETCH = "python3 train_deepseek_forex.py --stage ready --fetch-only"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = make_world(tmp_path, monkeypatch, fast=True)
    (tmp_path / "package" / "requirements.txt").write_text("numpy>=1.26\ntrl>=1.16,<2\npeft>=0.21\n")
    made.box.had = {"numpy": "2.1.0", "peft": "0.20.0"}
    made.box.transfer_s, made.box.ahead_s = 30.0, {"install": 60.0, "base": 100.0}
    return made


def _paid(world: World) -> dict[str, float]:
    spans = billing.paid_spans(world.history.records, world.clock.now())
    return {one.name: one.seconds for one in paid_parts.parts(world.history.records, spans)}


def test_both_have_begun_before_the_package_is_there(world: World) -> None:
    seen: list[dict[str, float]] = []

    def look(event: JobEvent, done: bool) -> None:
        if isinstance(event, Uploaded) and not done:
            seen.append(dict(world.box.ahead))

    world.run(until=Stage.UPLOAD, on_record=look)
    assert [sorted(one) for one in seen] == [["base", "install"]]
    code = world.box.root / ".harness" / "ahead"
    assert {path.name for path in code.rglob("*") if path.is_file()} == {"train_deepseek_forex.py", "requirements.txt"}


def test_what_is_paid_is_the_longest_of_the_three(world: World) -> None:
    world.run(until=Stage.INSTALL)
    paid = _paid(world)
    assert paid["upload"] == pytest.approx(30, abs=3)
    assert paid["install"] == pytest.approx(30, abs=3)
    assert paid["base model"] == pytest.approx(40, abs=3)
    assert (world.history.all(Installed), world.history.all(BaseFetched)) == ((Installed(0),), (BaseFetched(0),))
    assert world.box.commands.count(PIP) == 1, "the same command, where the package lies"
    assert FETCH not in world.box.commands


def test_what_failed_before_the_package_was_there_is_done_where_it_lies(world: World) -> None:
    world.box.ahead_status = 1
    world.run(until=Stage.INSTALL)
    assert [one for one in world.box.commands if one in {PIP, FETCH}] == [PIP, FETCH]
    assert world.history.all(BaseFetched) == (BaseFetched(0),)


def test_what_takes_too_long_is_stopped_and_done_where_the_package_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, package={"install_timeout_s": 50})
    world.box.ahead_s = {"base": 10_000.0}
    told = world.run(until=Stage.INSTALL)
    assert "base" not in world.box.ahead
    assert FETCH in world.box.commands
    assert any(f"{FETCH}: stopped after 5" in note for note in told.notes)


@pytest.mark.parametrize("error", [HostUnreachable, CouldNotLook, OSError])
def test_a_box_that_takes_no_head_start_does_everything_after_the_upload(
    world: World, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def refuses(*_: object, **__: object) -> bool:
        raise error("no tmux, no setsid")

    with monkeypatch.context() as bent:
        bent.setattr(TrainingSession, "start", refuses)
        told = world.run(until=Stage.INSTALL)
    assert any("nothing is begun before the package is there: no tmux" in note for note in told.notes)
    assert [one for one in world.box.commands if one in {PIP, FETCH}] == [PIP, FETCH]


def test_who_has_lost_the_job_to_another_begins_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run(until=Stage.PROVISION)

    def lost(*_: object, **__: object) -> None:
        raise LeaseLost("another process has the job")

    monkeypatch.setattr(type(world.store), "require_lease", lost)
    with pytest.raises(LeaseLost):
        ahead.begin(world.context(), Telling())
    assert not world.box.begun


def test_where_there_is_nothing_to_begin_nothing_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, package={"fetch_option": "", "install": []})
    told = world.run(until=Stage.INSTALL)
    assert not (world.box.root / ".harness" / "ahead").exists()
    assert not [note for note in told.notes if "begun" in note]
    assert not {ImageHad, Installed, BaseFetched} & set(world.kinds())


def test_of_the_package_only_what_is_small_and_no_data_goes_ahead(world: World) -> None:
    source = world.job.package.source
    (source / "small.bin").write_bytes(bytes(1 << 20))
    (source / "large.bin").write_bytes(bytes((1 << 20) + 1))
    world.run(until=Stage.UPLOAD)
    code = world.box.root / ".harness" / "ahead"
    sent = {path.relative_to(code).as_posix() for path in code.rglob("*") if path.is_file()}
    assert sent == {"train_deepseek_forex.py", "requirements.txt", "small.bin"}


def test_what_it_prints_and_how_long_it_runs_is_shown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    log = world.box.root / ".harness" / "ahead" / "install" / LOG
    log.parent.mkdir(parents=True)
    log.write_text("Collecting numpy\nInstalling numpy\n")
    shown: list[tuple[str, int, int, str]] = []
    monkeypatch.setattr(Telling, "meter", lambda _, meter, *told: shown.append((meter.name, *told)))
    world.run(until=Stage.INSTALL)
    installing = [(done, total, said) for name, done, total, said in shown if name == f"on the box: {PIP}"]
    assert {(total, said) for _, total, said in installing} == {
        (int(world.job.package.install_timeout_s), "Installing numpy")
    }
    seconds = [done for done, *_ in installing]
    assert seconds == list(range(0, 2 * len(seconds), 2))
    assert {said for name, _, _, said in shown if name == f"on the box: {FETCH}"} == {""}


def test_killed_while_it_waits_the_next_run_finds_what_was_begun(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real, looks = BoxHost.probe, 0

    def dies(self: BoxHost, *args: object, **named: object) -> object:
        nonlocal looks
        looks += world.history.stage is Stage.INSTALL
        if looks == 3:
            looks += 1
            raise Killed
        return real(self, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(BoxHost, "probe", dies)
    with pytest.raises(Killed):
        world.run()
    assert not world.history.all(Installed)
    world.run()
    assert world.history.closed
    assert world.box.begun == {"install": 1, "base": 1}


def test_what_the_image_brings_is_recorded_before_anything_is_installed_once_an_instance(world: World) -> None:
    world.run(until=Stage.INSTALL)
    had = ImageHad({"numpy": "2.1.0"}, ("trl<2,>=1.16", "peft>=0.21"))
    assert world.history.all(ImageHad) == (had,)
    assert world.kinds().index(ImageHad) < world.kinds().index(Uploaded)
    (world.home.parent / "package" / "train_deepseek_forex.py").write_text("# mended\n")
    world.box.had["trl"] = "1.16.0"
    world.run(until=Stage.INSTALL)
    assert world.kinds().count(Uploaded) == 2
    assert world.history.all(ImageHad) == (had,)


def test_without_a_fetch_option_only_the_installation_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, package={"fetch_option": ""})
    world.run(until=Stage.INSTALL)
    assert [*world.box.begun] == ["install"]
    assert BaseFetched not in world.kinds()
