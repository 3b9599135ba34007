"""What is at home already, what is taken from where, and how fast the rest came: real files, no job runs here."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.artifacts import arrival, manifest, parts
from harness.artifacts.parts import Artifact, ArtifactFile
from harness.context import RunnerContext
from harness.core.answers import Tree, TreeEntry
from harness.core.errors import HostUnreachable
from harness.core.ids import Sha256
from harness.core.observed import CouldNotLook, seen
from harness.core.ports import Progress, RemoteFile
from harness.facts.mirror import MIRROR
from harness.runner import evaluation, postdownload
from tests.support.context import Telling
from tests.support.facts import sound_job
from tests.support.fake_clock import FakeClock

A, B = b"first file", b"and the second"
FILES = {"a.json": A, "deep/b.bin": B}


def sha(data: bytes) -> Sha256:
    return Sha256(hashlib.sha256(data).hexdigest())


def folder_of(files: dict[str, bytes]) -> Artifact:
    return parts.of_files("/box/final", (ArtifactFile(name, len(data), sha(data)) for name, data in files.items()))


ONE, SEVERAL = Artifact("/box/final/m.gguf", len(A), sha(A)), folder_of(FILES)


def write(place: Path, data: bytes | dict[str, bytes]) -> Path:
    for name, body in data.items() if isinstance(data, dict) else [("", data)]:
        path = place / name if name else place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return place


class Box:
    """A box that sends what it is asked for, a second for each ten bytes, in two steps."""

    def __init__(self, files: dict[str, bytes], clock: FakeClock) -> None:
        self.files, self.clock, self.sent, self.here_before = files, clock, list[str](), 0

    def fetch(self, remote: RemoteFile, local: Path, show: Callable[[Progress], None] = lambda _: None) -> None:
        data = self.files[remote.path]
        self.sent.append(remote.path)
        show(Progress(self.here_before, len(data)))
        self.clock.turn((len(data) - self.here_before) / 10)
        show(Progress(len(data), len(data)))
        local.write_bytes(data)


class Desk:
    """A context with one folder at home, and a box."""

    def __init__(self, folder: Path, **history: Any) -> None:
        self.clock, self.reporter, self.directory, self.job = FakeClock(), Metered(), folder, sound_job()
        self.history = SimpleNamespace(**{"fetched": None, "artifact": None, **history})
        self.box = Box({f"/box/final/{name}": data for name, data in {**FILES, "m.gguf": A}.items()}, self.clock)

    def __call__(self) -> RunnerContext:
        return cast("RunnerContext", self)

    def host(self) -> Any:
        return self.box


class Metered(Telling):
    def __init__(self) -> None:
        super().__init__()
        self.shown: list[tuple[int, int]] = []

    def meter(self, meter: Any, done: int, total: int, detail: str = "") -> None:
        del meter, detail
        self.shown.append((done, total))


# --- is it here -----------------------------------------------------------------------------


@pytest.mark.parametrize("artifact", [ONE, SEVERAL], ids=["one", "several"])
@pytest.mark.parametrize("what", ["it", "other bytes", "nothing", "a link", "of the other kind"])
def test_only_the_very_artifact_is_here(tmp_path: Path, artifact: Artifact, what: str) -> None:
    sound: bytes | dict[str, bytes] = FILES if artifact.files else A
    place = tmp_path / "m"
    if what == "it":
        write(place, sound)
    elif what == "other bytes":
        write(place, {**FILES, "a.json": A + b"?"} if artifact.files else A + b"?")
    elif what == "a link":
        place.symlink_to(write(tmp_path / "elsewhere", sound))
    elif what == "of the other kind":
        write(place, A if artifact.files else FILES)
    assert postdownload._is_here(place, artifact) is (what == "it")


def test_a_folder_that_holds_a_link_is_not_the_artifact(tmp_path: Path) -> None:
    place = write(tmp_path / "m", FILES)
    (place / "a.json").rename(tmp_path / "elsewhere")
    (place / "a.json").symlink_to(tmp_path / "elsewhere")
    assert postdownload._is_here(place, SEVERAL) is False
    fetched = SimpleNamespace(path=str(place))
    told = postdownload.local_problem(Desk(tmp_path, fetched=fetched)(), SEVERAL)
    assert told == f"{place} has changed: a.json is a link, and not the file itself"


@pytest.mark.parametrize(
    ("artifact", "there", "words"),
    [
        (ONE, A, None),
        (ONE, B, "has changed"),
        (ONE, None, "is gone"),
        (ONE, FILES, "is gone"),
        (SEVERAL, FILES, None),
        (SEVERAL, None, "is gone"),
        (SEVERAL, A, "is gone"),
        (SEVERAL, {**FILES, "a.json": B}, "has changed: a.json"),
        (SEVERAL, {"a.json": A}, "has changed: deep/b.bin is missing"),
    ],
)
def test_what_is_wrong_with_the_file_at_home_is_told(
    tmp_path: Path, artifact: Artifact, there: bytes | dict[str, bytes] | None, words: str | None
) -> None:
    place = tmp_path / "m"
    if there is not None:
        write(place, there)
    told = postdownload.local_problem(Desk(tmp_path, fetched=SimpleNamespace(path=str(place)))(), artifact)
    assert told == words if words is None else (told or "").startswith(f"{place} {words}")


def test_many_differences_are_told_by_the_first(tmp_path: Path) -> None:
    many = {f"{number}.json": b"x" for number in range(5)}
    place = write(tmp_path / "m", dict.fromkeys(many, b"y"))
    told = postdownload.local_problem(Desk(tmp_path, fetched=SimpleNamespace(path=str(place)))(), folder_of(many))
    assert told is not None
    assert [name in told for name in many] == [True, True, True, False, False]


def test_what_was_never_fetched_is_a_problem(tmp_path: Path) -> None:
    assert postdownload.local_problem(Desk(tmp_path)(), ONE) == "the artifact was never fetched"


# --- the way home ---------------------------------------------------------------------------


def test_a_file_comes_home_at_its_rate(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    assert postdownload._bring(desk(), ONE, tmp_path / "home" / "m", desk.reporter) == pytest.approx(10.0)
    assert (tmp_path / "home" / "m").read_bytes() == A
    assert desk.reporter.shown == [(0, len(A)), (len(A), len(A))]


def test_bytes_that_were_here_before_are_no_speed(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.box.here_before = 4
    assert postdownload._bring(desk(), ONE, tmp_path / "m", desk.reporter) == pytest.approx(10.0)
    desk.box.here_before = len(A)
    assert postdownload._bring(desk(), ONE, tmp_path / "n", desk.reporter) is None


def test_a_folder_gets_its_name_when_all_of_it_is_there_and_counts_all_together(tmp_path: Path) -> None:
    desk, local = Desk(tmp_path), tmp_path / "m"
    write(local, {"old.txt": b"of another"})
    assert postdownload._bring(desk(), SEVERAL, local, desk.reporter) == pytest.approx(10.0)
    assert postdownload._is_here(local, SEVERAL)
    total = len(A) + len(B)
    assert desk.reporter.shown == [(0, total), (len(A), total), (len(A), total), (total, total)]
    (aside,) = tmp_path.glob("m.rejected-*")
    assert (aside / "old.txt").read_bytes() == b"of another"
    assert f"kept as {aside.name}" in desk.reporter.notes[0]


def test_a_folder_that_cannot_be_completed_keeps_its_place_and_what_came_is_not_fetched_again(tmp_path: Path) -> None:
    desk, local = Desk(tmp_path), tmp_path / "m"
    write(local, {"old.txt": b"of another"})
    kept = desk.box.files.pop("/box/final/deep/b.bin")
    with pytest.raises(KeyError):
        postdownload._bring(desk(), SEVERAL, local, desk.reporter)
    assert (local / "old.txt").is_file()
    desk.box.files["/box/final/deep/b.bin"] = kept
    desk.box.sent.clear()
    postdownload._bring(desk(), SEVERAL, local, desk.reporter)
    assert desk.box.sent == ["/box/final/deep/b.bin"]


@pytest.mark.parametrize("where", ["its own place", "the companions", "where it was before"])
def test_a_file_that_is_on_this_machine_is_not_fetched(tmp_path: Path, where: str) -> None:
    desk, local = Desk(tmp_path), tmp_path / "home" / "m"
    place = {
        "its own place": local,
        "the companions": tmp_path / "companions" / desk.job.artifact.remote_dir,
        "where it was before": tmp_path / "before",
    }[where]
    write(place, {"deep/b.bin": B})
    local.parent.mkdir(exist_ok=True)
    if where == "where it was before":
        desk.history.fetched = SimpleNamespace(path=str(place))
    postdownload._bring(desk(), SEVERAL, local, desk.reporter)
    assert desk.box.sent == ["/box/final/a.json"]
    assert postdownload._is_here(local, SEVERAL)
    if where != "its own place":  # it is copied, and cannot be written to
        assert (place / "deep/b.bin").read_bytes() == B
        assert not (local / "deep/b.bin").stat().st_mode & 0o222


def test_a_file_of_other_bytes_on_its_way_makes_way(tmp_path: Path) -> None:
    desk, local = Desk(tmp_path), tmp_path / "m"
    write(arrival.incoming(local), {"a.json": b"?"})
    write(local, FILES)
    (local / "a.json").write_bytes(b"!")
    postdownload._bring(desk(), SEVERAL, local, desk.reporter)
    assert desk.box.sent == ["/box/final/a.json"]
    assert postdownload._is_here(local, SEVERAL)
    assert not arrival.incoming(local).exists()


# --- companions -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "small"),
    [
        ("adapter_model.safetensors", True),
        ("trainer_state.json", True),
        ("chat_template.jinja", True),
        ("tokenizer.model", True),
        ("merges.txt", True),
        ("optimizer.pt", False),
        ("model.safetensors", False),
        ("global_step20/state.json", False),
        ("json", False),
    ],
)
def test_small_files_alone_come_home_beside_a_model(name: str, small: bool) -> None:
    assert postdownload._is_small(name) is small


REMOTE = RemoteFile("/box/final/m.gguf", len(A), sha(A))


@pytest.mark.parametrize(
    ("here", "mirrored", "fetched"),
    [
        (None, {}, True),
        (A, {}, False),
        (B, {}, True),
        (None, {"sft/checkpoint-9/m.gguf": A}, False),
        (None, {"sft/checkpoint-9/m.gguf": A[::-1]}, True),
        (None, {"sft/checkpoint-9/m.gguf": A + b"?"}, True),
        (None, {"sft/checkpoint-9/m.gguf": A[::-1], "dpo/checkpoint-8/m.gguf": A}, False),
        (None, {"sft/checkpoint-9/other": A}, True),
    ],
    ids=["nowhere", "here", "another here", "mirrored", "as long", "longer", "one of two", "by another name"],
)
def test_a_companion_that_is_on_this_machine_is_not_fetched(
    tmp_path: Path, here: bytes | None, mirrored: dict[str, bytes], fetched: bool
) -> None:
    desk, local = Desk(tmp_path), tmp_path / "companions" / "final" / "m.gguf"
    if here is not None:
        write(local, here)
    write(tmp_path / MIRROR, mirrored)
    postdownload._fetch_companion(desk(), REMOTE, local)
    assert local.read_bytes() == A
    assert desk.box.sent == (["/box/final/m.gguf"] if fetched else [])


def test_the_newest_of_two_like_checkpoints_is_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look hashes a file of some hundred megabytes; one of another size is none."""
    desk, looked = Desk(tmp_path), list[str]()
    write(tmp_path / MIRROR, {f"sft/checkpoint-{step}/m.gguf": A for step in (1, 2)} | {"dpo/3/m.gguf": A + b"?"})
    (tmp_path / MIRROR / "dpo" / "4" / "m.gguf").mkdir(parents=True)
    os.utime(tmp_path / MIRROR / "sft/checkpoint-1/m.gguf", (1, 1))
    is_here = arrival.is_here

    def look(path: Path, sha256: Any) -> bool:
        looked.append(path.parent.name)
        return is_here(path, sha256)

    monkeypatch.setattr(arrival, "is_here", look)
    postdownload._fetch_companion(desk(), REMOTE, tmp_path / "companions" / "m.gguf")
    assert looked == ["checkpoint-2"]


@pytest.mark.parametrize(
    "error", [HostUnreachable("cut"), CouldNotLook("no reply"), OSError("no room"), ValueError("no number")]
)
def test_a_companion_that_cannot_be_had_is_told_and_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    desk, tried = Desk(tmp_path), list[Path]()

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(postdownload, "_fetch_companions", fail)
    postdownload._bring_companions(desk(), desk.reporter)
    assert desk.reporter.notes == [f"the companions could not all be fetched: {error}"]

    def fail_first(_context: object, _remote: object, local: Path) -> None:
        tried.append(local)
        if len(tried) == 1:
            raise error

    monkeypatch.setattr(postdownload, "_fetch_companions", lambda _: [(REMOTE, Path("a")), (REMOTE, Path("b"))])
    monkeypatch.setattr(postdownload, "_fetch_companion", fail_first)
    postdownload._bring_companions(desk(), desk.reporter)
    assert desk.reporter.notes[1:] == [f"a tracker's file stays on the box: {error}"]
    assert tried == [Path("a"), Path("b")]


def unlisted(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, sft: Sequence[TreeEntry], dpo: Sequence[TreeEntry] = ()
) -> list[str]:
    """Places here of what comes home of an unmodified trainer's folders, in their order."""
    came = list[str]()
    desk.job = sound_job(training={"log": "trainer"})
    monkeypatch.setattr(postdownload, "_digest", lambda _, path: RemoteFile(path, 1, sha(path.encode())))
    monkeypatch.setattr(evaluation, "bring", lambda _: came.append("the evaluation"))

    def fetch(_context: object, remote: RemoteFile, local: Path) -> None:
        assert remote.path == f"{desk.job.package.remote_dir}/{local.relative_to(tmp).as_posix()}"
        came.append(local.relative_to(tmp).as_posix())
        local.parent.mkdir(parents=True, exist_ok=True)

    tmp = desk.directory / "companions"
    monkeypatch.setattr(postdownload, "_fetch_companion", fetch)
    trees = {"sft": tuple(sft), "dpo": tuple(dpo)}

    def probe(questions: Sequence[Any]) -> Any:
        folders = {f"{desk.job.package.remote_dir}/{desk.job.checkpoint_folder(one)}": one for one in desk.job.trainers}
        return {one: seen(Tree(exists=True, entries=trees[folders[one.path]])) for one in questions}

    monkeypatch.setattr(desk.box, "probe", probe, raising=False)
    tracked = postdownload._fetch_unlisted(desk())
    return [*came, *(f"later: {local.relative_to(tmp).as_posix()}" for _, local in tracked)]


def entry(path: str, size: int = 9, kind: str = "file") -> TreeEntry:
    return TreeEntry(path, kind, size, 0.0)


def test_of_an_unmodified_trainer_the_log_and_each_newest_checkpoints_small_files_come_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path)
    sft = [
        entry("checkpoint-20/trainer_state.json"),
        entry("checkpoint-100/trainer_state.json"),
        entry("checkpoint-100/adapter_model.safetensors"),
        entry("checkpoint-100/optimizer.pt"),
        entry("checkpoint-100/vocab.txt", kind="dir"),
        entry("checkpoint-9/sub/trainer_state.json"),
        entry("runs/events.out.tfevents.1", 64 << 20),
        entry("runs/events.out.tfevents.2", (64 << 20) + 1),
        entry("runs/events.out.tfevents.3", kind="link"),
    ]
    came = unlisted(desk, monkeypatch, sft, [entry("README.md")])
    folder = desk.job.checkpoint_folder(cast("Any", "sft"))
    assert came == [
        "training.log",
        f"{folder}/checkpoint-100/trainer_state.json",
        f"{folder}/checkpoint-100/adapter_model.safetensors",
        "the evaluation",
        f"later: {folder}/runs/events.out.tfevents.1",
    ]
    found = json.loads((tmp_path / "companions" / manifest.FOUND).read_text())
    assert found == {
        path: sha(f"{desk.job.package.remote_dir}/{path}".encode()) for path in came if path.startswith((folder, "tr"))
    }


def test_of_a_trackers_files_two_hundred_come_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [entry(f"runs/events.out.tfevents.{number}") for number in range(201)]
    came = unlisted(Desk(tmp_path), monkeypatch, many)
    assert sum(one.startswith("later") for one in came) == 200


# --- the second copy ------------------------------------------------------------------------


@pytest.mark.parametrize(("artifact", "data"), [(ONE, A), (SEVERAL, FILES)], ids=["one", "several"])
def test_a_second_copy_is_made_once_and_puts_another_aside(
    tmp_path: Path, artifact: Artifact, data: bytes | dict[str, bytes]
) -> None:
    desk = Desk(tmp_path)
    desk.job = sound_job(artifact={"second_copy": tmp_path / "more" / "copies"})
    local = write(tmp_path / "m", data)
    postdownload._copy_again(desk(), local, artifact, desk.reporter)
    copy = tmp_path / "more" / "copies" / "m"
    assert postdownload._is_here(copy, artifact)
    before = copy.stat().st_ino
    postdownload._copy_again(desk(), local, artifact, desk.reporter)
    assert (copy.stat().st_ino, desk.reporter.notes) == (before, [])
    copy.rename(copy.with_name("kept"))
    write(copy, b"another")
    postdownload._copy_again(desk(), local, artifact, desk.reporter)
    assert postdownload._is_here(copy, artifact)
    (aside,) = copy.parent.glob("m.rejected-*")
    assert aside.read_bytes() == b"another"


def test_no_second_copy_is_made_where_none_is_asked_for(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.job = desk.job.model_copy(update={"artifact": desk.job.artifact.model_copy(update={"second_copy": None})})
    postdownload._copy_again(desk(), write(tmp_path / "m", A), ONE, desk.reporter)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_without_an_artifact_on_the_box_nothing_is_downloaded(tmp_path: Path) -> None:
    with pytest.raises(CouldNotLook, match="no artifact was recorded"):
        postdownload.download((desk := Desk(tmp_path))(), desk.reporter)


def test_what_has_the_name_of_a_file_that_was_found_elsewhere_is_kept_aside(tmp_path: Path) -> None:
    here, elsewhere = tmp_path / "home" / "a.json", tmp_path / "other"
    for path, data in ((here, b"mine"), (elsewhere / "a.json", A)):
        path.parent.mkdir()
        path.write_bytes(data)
    (part, _) = folder_of(FILES).files
    assert postdownload._taken(part, tmp_path / "none", [elsewhere], here)
    assert here.read_bytes() == A
    assert [path.read_bytes() for path in here.parent.glob("a.json.rejected-*")] == [b"mine"]
