"""A model that is several files goes the road of one: recorded, brought home, held, released; whatever stops it."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts import parts
from harness.core import durable
from harness.core.errors import HarnessError, Refused, RemoteChanged
from harness.core.ids import InstanceId
from harness.core.lifecycle import Stage
from harness.core.ports import DestroyReply, RemoteFile
from harness.ledger.events import ArtifactRecorded, Destroyed, DestroyIntended, Guarded, Released
from harness.ledger.kinds import JobEvent
from harness.release import release as releases
from tests.support.context import Killed, World, make_world
from tests.support.scripted_world import Market

FINAL, ADAPTER = "models/output/final", "models/output/adapter"
KINDS = {
    "split": {f"{FINAL}/m-{number:05d}-of-00003.gguf": b"GGUF" + bytes([number]) * 99 for number in (1, 2, 3)},
    "merged": {
        f"{FINAL}/config.json": b"{}",
        f"{FINAL}/model.safetensors": b"weights" * 9,
        f"{FINAL}/additional_chat_templates/tools.jinja": b"{{ tools }}",
        f"{FINAL}/empty.txt": b"",
        f"{FINAL}/empty_too.txt": b"",
    },
    "adapter": {
        f"{ADAPTER}/adapter_config.json": b"{}",
        f"{ADAPTER}/adapter_model.safetensors": b"lora" * 9,
        f"{ADAPTER}/README.md": b"# adapter",
    },
}
NOT_OF_IT = {f"{FINAL}/checkpoint-9/optimizer.pt": b"?", f"{FINAL}/.cache/x": b"?"}
"""What lies in a merged model's folder and is none of it."""


def _world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, **artifact: Any) -> World:
    table = {} if kind == "split" else {"kind": kind, "floor": 10}
    world = make_world(tmp_path, monkeypatch, fast=True, artifact={**table, **artifact})
    world.box.leaves = {**KINDS[kind], **(NOT_OF_IT if kind == "merged" else {})}
    _watch_destroys(world, monkeypatch)
    return world


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A job of each kind, nothing of it begun."""
    return _world(tmp_path, monkeypatch, request.param)


def _watch_destroys(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Market.destroy

    def destroy(self: Market, instance_id: InstanceId) -> DestroyReply:
        assert _contents(_home(world)) == _wanted(world), "destroyed without the very files here"
        assert world.history.destroy_intended, "destroyed without a recorded intent"
        return real(self, instance_id)

    monkeypatch.setattr(Market, "destroy", destroy)


def _wanted(world: World) -> dict[str, bytes]:
    folder = f"{world.job.artifact.remote_dir}/"
    return {name.removeprefix(folder): data for name, data in world.box.leaves.items() if name not in NOT_OF_IT}


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _home(world: World) -> Path:
    assert world.history.fetched is not None
    return Path(world.history.fetched.path)


def _ends_well(world: World) -> None:
    assert world.history.closed
    assert world.provider.count("create") == 1
    assert not world.market.rented
    assert _contents(_home(world)) == _wanted(world)
    assert [path.name for path in _home(world).parent.iterdir() if "rejected" not in path.name] == [_home(world).name]
    assert not list(world.home.rglob("held/*"))


def test_every_file_comes_home_under_the_jobs_name(world: World) -> None:
    world.change(artifact={"second_copy": str(world.home / "copy")})
    world.run()
    _ends_well(world)
    assert _home(world).name == "night"
    assert _contents(world.home / "copy" / "night") == _wanted(world)
    artifact = world.history.artifact
    assert artifact is not None
    assert artifact.sha256 == parts.here(_home(world))[0].sha256
    assert world.history.guarded is not None
    assert world.history.guarded.sha256 == artifact.sha256


def test_the_digest_is_that_of_a_manifest_that_anybody_can_write(world: World) -> None:
    world.run()
    told = [
        {"bytes": len(data), "path": name, "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in sorted(_wanted(world).items())
    ]
    manifest = json.dumps(told, separators=(",", ":"), sort_keys=True).encode()
    assert world.history.artifact is not None
    assert hashlib.sha256(manifest).hexdigest() == world.history.artifact.sha256


def test_a_reader_checks_the_release_without_the_job(world: World) -> None:
    world.run()
    assert world.history.release_path is not None
    statement = json.loads(Path(world.history.release_path).read_bytes())
    named = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
    assert named == {name: hashlib.sha256(data).hexdigest() for name, data in _contents(_home(world)).items()}
    release = releases.read(Path(world.history.release_path))
    assert releases.file_problem(release, _home(world)) is None
    for change in SPOILT.values():
        kept = _contents(_home(world))
        change(_home(world))
        assert releases.file_problem(release, _home(world)) is not None
        _restore(_home(world), kept)


@pytest.mark.parametrize("place", ["digest", "bytes", "name", "one less", "exchanged"])
def test_a_release_whose_files_are_not_what_its_digest_says_is_none(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = _world(tmp_path, monkeypatch, "merged")
    world.run()
    assert world.history.release_path is not None
    body = json.loads(Path(world.history.release_path).read_bytes())
    subjects, artifact = body["subject"], body["predicate"]["artifact"]
    if place == "digest":
        artifact["manifestDigest"]["sha256"] = "0" * 64
    elif place == "bytes":
        artifact["bytes"]["config.json"] += 1
    elif place == "name":
        subjects[0]["name"] = "../config.json"
    elif place == "one less":
        del subjects[-1]
    else:
        subjects[0], subjects[1] = subjects[1], subjects[0]
    with pytest.raises(releases.BadInput, match="is not a release"):
        releases.read(json.dumps(body).encode())


def _restore(folder: Path, contents: dict[str, bytes]) -> None:
    for path in [path for path in folder.rglob("*") if path.is_file() or path.is_symlink()]:
        path.unlink()
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def _some(folder: Path) -> Path:
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def _flip(folder: Path) -> None:
    path = _some(folder)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def _remove(folder: Path) -> None:
    _some(folder).unlink()


def _add(folder: Path) -> None:
    (folder / "notes.txt").write_bytes(b"mine")


def _away(folder: Path) -> None:
    folder.rename(folder.parents[1] / "elsewhere")


def _link(folder: Path) -> None:
    path = _some(folder)
    path.symlink_to(path.rename(folder.parents[1] / "linked"))


SPOILT: dict[str, Callable[[Path], None]] = {"flipped": _flip, "removed": _remove, "added": _add, "linked": _link}


@pytest.mark.parametrize("how", [*SPOILT, "away"])
@pytest.mark.parametrize(("kind", "after"), [(Released, True), (Guarded, True), (DestroyIntended, True)])
def test_what_is_spoilt_before_the_request_keeps_the_instance(
    world: World, how: str, kind: type[JobEvent], after: bool
) -> None:
    act = {**SPOILT, "away": _away}[how]

    def spoil(event: JobEvent, done: bool) -> None:
        if (type(event), done) == (kind, after):
            act(_home(world))

    with pytest.raises(Refused, match="no longer matches its release"):
        world.run(on_record=spoil)
    assert world.provider.count("destroy") == 0
    world.run()
    _ends_well(world)


@pytest.mark.parametrize("how", [*SPOILT, "away"])
def test_what_is_spoilt_once_it_was_verified_is_brought_home_again(world: World, how: str) -> None:
    world.run(until=Stage.POSTDOWNLOAD)
    {**SPOILT, "away": _away}[how](_home(world))
    fetched: list[str] = []
    world.box.on_fetch = lambda remote: fetched.append(Path(remote.path).name)
    world.run()
    _ends_well(world)
    assert len([name for name in fetched if name not in {"MANIFEST.json", "training.log", "run.json"}]) <= (
        len(world.box.leaves) if how == "away" else 1
    ), "a file that is here is not fetched again"


@pytest.mark.parametrize("how", ["removed", "away"])
def test_what_goes_with_the_request_is_put_back(world: World, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    destroy = Market.destroy

    def destroys(market: Market, instance_id: InstanceId) -> DestroyReply:
        reply = destroy(market, instance_id)
        {**SPOILT, "away": _away}[how](_home(world))
        return reply

    monkeypatch.setattr(Market, "destroy", destroys)
    world.run()
    assert world.history.closed
    assert _contents(_home(world)) == _wanted(world)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", range(18, 39))
def test_killed_at_an_event(number: int, after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = _world(tmp_path, monkeypatch, "merged", second_copy=str(tmp_path / "copy"))
    count, now = itertools.count(2), 0

    def kill(_event: JobEvent, done: bool) -> None:
        nonlocal now
        now = now if done else next(count)
        if now == number and done is after:
            raise Killed

    with pytest.raises(Killed):
        world.run(on_record=kill)
    world.run()
    _ends_well(world)


@pytest.mark.parametrize("number", range(1, 6))
def test_killed_between_two_files(world: World, number: int) -> None:
    """Each process dies at a later file; what an earlier one brought is not fetched again."""
    fetched: list[str] = []

    def fetch(remote: RemoteFile) -> None:
        if len(fetched) == number:
            fetched.append("killed")
            raise Killed
        fetched.append(remote.path)

    world.box.on_fetch = fetch
    with pytest.raises(Killed):
        world.run()
    world.run()
    _ends_well(world)
    of_it = [one for one in fetched if f"{FINAL}/" in one or f"{ADAPTER}/" in one]
    assert len(of_it) == len(set(of_it)), of_it


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("place", ["artifact", "copy"])
def test_killed_at_the_rename_into_place(
    world: World, after: bool, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.change(artifact={"second_copy": str(world.home / "copy")})
    publish, dead = durable.publish, []

    def dies(temporary: Path, final: Path) -> None:
        mine = temporary.is_dir() and final.parent.name == place and not dead
        if mine and not after:
            dead.append(final)
            raise Killed
        publish(temporary, final)
        if mine:
            dead.append(final)
            raise Killed

    monkeypatch.setattr(durable, "publish", dies)
    with pytest.raises(Killed):
        world.run()
    assert dead
    world.run()
    _ends_well(world)
    assert _contents(world.home / "copy" / "night") == _wanted(world)


def test_what_an_earlier_attempt_left_does_not_come_along(world: World) -> None:
    world.run(until=Stage.POSTTRAIN)
    left = world.home / "jobs" / "night" / "artifact" / "night.incoming"
    (left / "deeper").mkdir(parents=True)
    for name in ("of another run.safetensors", "deeper/x.part"):
        (left / name).write_bytes(b"?")
    world.run()
    _ends_well(world)


def test_what_has_the_name_is_kept_aside(world: World) -> None:
    there = world.home / "jobs" / "night" / "artifact" / "night"
    there.mkdir(parents=True)
    (there / "mine.txt").write_bytes(b"mine")
    world.run()
    _ends_well(world)
    assert [path.read_bytes() for path in there.parent.glob("night.rejected-*/mine.txt")] == [b"mine"]


def test_one_byte_that_changes_on_the_box_holds_the_download(world: World) -> None:
    world.run(until=Stage.POSTTRAIN)
    _flip(world.box.root / world.job.artifact.remote_dir)
    # An adapter is at home since the stage before: it is verified, and the guard sees what became of the other one.
    at_home = world.job.artifact.kind == "adapter"
    with pytest.raises(Refused if at_home else RemoteChanged, match="has changed"):
        world.run()
    assert (world.history.verified is not None) is at_home
    assert world.provider.count("destroy") == 0


def _posttrain(world: World) -> str:
    """Why no artifact was recorded on the box."""
    told = world.run(until=Stage.POSTTRAIN)
    assert world.history.artifact is None
    return "; ".join(note for note in told.notes if "no artifact" in note)


HOSTILE: list[tuple[str, str, str]] = [
    ("merged", "CONFIG.json", "one name on Windows and macOS"),
    ("merged", "con.txt", "not a safe relative path"),
    ("merged", "a:b", "not a safe relative path"),
    ("merged", "back\\slash", "not a safe relative path"),
    ("merged", "trailing. ", "not a safe relative path"),
    ("merged", "-rf", "could be taken for an option"),
    ("merged", "$(reboot)", "U+0024"),
    ("merged", "right\u202eleft", "U+202E"),
    ("merged", "e\u0301.txt", ""),
    ("merged", "x" * 210, "200 at most"),
    ("merged", "Config.JSON/inside", "lies in what is a file"),
]


@pytest.mark.parametrize(("kind", "name", "words"), HOSTILE, ids=[name[:20] for _, name, _ in HOSTILE])
def test_a_hostile_name_is_never_brought_home(
    kind: str, name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = _world(tmp_path, monkeypatch, kind)
    world.box.leaves[f"{FINAL}/{name}"] = b"?"
    if not words:  # a name that is only unusual comes home
        world.run()
        _ends_well(world)
        return
    assert words in _posttrain(world)


def test_two_spellings_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = _world(tmp_path, monkeypatch, "merged")
    world.box.leaves |= {f"{FINAL}/\u00e9.txt": b"1", f"{FINAL}/e\u0301.txt": b"2"}
    assert "one name on Windows and macOS" in _posttrain(world)


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = _world(tmp_path, monkeypatch, "merged")
    world.box.leaves |= {f"{FINAL}/{number}": b"" for number in range(parts.MOST)}
    assert f"1 to {parts.MOST}" in _posttrain(world)


def test_a_link_on_the_box_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = _world(tmp_path, monkeypatch, "merged")
    finish = type(world.box).finish

    def finishes(box: Any) -> None:
        finish(box)
        (box.root / FINAL / "secret.txt").symlink_to("/etc/hostname")

    monkeypatch.setattr(type(world.box), "finish", finishes)
    assert "secret.txt is a link" in _posttrain(world)


def test_a_record_whose_files_are_not_what_its_digest_says_does_not_read(world: World) -> None:
    world.run(until=Stage.POSTTRAIN)
    (event,) = world.history.all(ArtifactRecorded)
    assert event.files is not None
    with pytest.raises(ValueError, match="are not those that its digest"):
        parts.recorded(event.path, event.size, event.sha256, event.files[1:])


def test_an_instance_that_others_destroyed_is_closed_when_every_file_is_here(world: World) -> None:
    world.run(until=Stage.POSTDOWNLOAD)
    world.market.rented.clear()
    world.run()
    assert world.history.all(Destroyed)[-1].by is not None
    assert world.history.closed


def test_without_every_file_it_is_not(world: World) -> None:
    world.run(until=Stage.POSTDOWNLOAD)
    world.market.rented.clear()
    _remove(_home(world))
    with pytest.raises(HarnessError):
        world.run()
    assert not world.history.closed


@pytest.mark.skipif(os.name == "nt", reason="file modes are POSIX")
def test_every_file_is_read_only(world: World) -> None:
    world.run()
    assert {path.stat().st_mode & 0o222 for path in _home(world).rglob("*") if path.is_file()} <= {0, 0o200}
