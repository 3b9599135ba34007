"""The look at what came home when the file is not where it was put: one cause, told once, and never damage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.artifacts import elsewhere, manifest, parts
from harness.artifacts.digest import Hashed
from harness.artifacts.parts import Artifact
from harness.core.ids import Sha256
from harness.core.lifecycle import Stage
from harness.core.observed import CouldNotLook
from harness.facts import postdownload, recordable, runtime
from harness.facts.postdownload import Companions, look
from harness.gates import judge
from harness.gates.evidence import CheckResult
from harness.gates.facts_file import FactsFile
from harness.job.load import load_job
from tests.support.context import World, make_world
from tests.support.facts import sound_job

SHA = Sha256("ab" * 32)
LOG, RUN = b"the log", b"{}"
EXISTS, SPEAKS = "local_file_exists", "gguf_generates"
OF_THE_FILE = {
    "local_file_over_floor",
    "local_size_equals_remote",
    "local_sha256_equals_remote",
    "local_gguf_well_formed",
    "gguf_tokenizer_and_template_match",
    SPEAKS,
}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.delenv("HARNESS_NOTIFY", raising=False)
    return make_world(tmp_path, monkeypatch, fast=True, gates={"generate": True})


def _judged(world: World, tmp_path: Path) -> dict[str, CheckResult]:
    """What the real gate says of a real look."""
    context = world.context()
    seen = recordable(Stage.POSTDOWNLOAD, look(context))
    file = tmp_path / "facts.json"
    file.write_bytes(FactsFile("postdownload", context.job, context.clock.now(), 0.1, seen).dump())
    return {result.id: result for result in _JUDGE(file).results}


_JUDGE = judge.judge


def test_a_file_that_is_not_here_is_told_by_one_check(world: World, tmp_path: Path) -> None:
    world.run(until=Stage.POSTDOWNLOAD)
    verified = world.history.verified
    assert verified is not None
    Path(verified.path).unlink()
    judged = _judged(world, tmp_path)
    assert (judged[EXISTS].verdict, judged[EXISTS].message) == ("fail", f"there is no {verified.path}")
    assert "the instance still has it" in judged[EXISTS].remedy
    for name in OF_THE_FILE:
        assert judged[name].verdict == "unknown", name
        assert judged[name].message == f"could not look: see {EXISTS}", name
        assert judged[name].remedy == "", name
        assert str(verified.path) not in str(judged[name].saw), name


def test_after_the_instance_went_no_remedy_sends_anybody_to_it(world: World, tmp_path: Path) -> None:
    world.run()
    assert world.history.destroyed is not None
    verified = world.history.verified
    assert verified is not None
    Path(verified.path).unlink()
    told = _judged(world, tmp_path)[EXISTS].remedy
    assert (
        told == "the instance is gone: harness download night says how a copy of the file is put back, and looks again"
    )
    Path(verified.path).write_bytes(b"other bytes")
    judged = _judged(world, tmp_path)
    shut = [one for one in judged.values() if one.verdict != "pass" and one.remedy]
    assert {"local_sha256_equals_remote", "local_size_equals_remote"} <= {one.id for one in shut}
    for one in shut:
        assert "harness run" not in one.remedy, one.id
        assert "still has it" not in one.remedy, one.id


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _at_home(tmp_path: Path, *, unmodified: bool = False) -> Any:
    """A context whose small files came home, every one of them."""
    home = tmp_path / "companions"
    job = load_job(Path(__file__).parents[2] / "support" / "plain_job.toml") if unmodified else sound_job()
    files = {"training.log": LOG, "run.json": RUN, "out/checkpoint-30/trainer_state.json": b"{}", "models/a/x": b"x"}
    for name, data in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(data)
    kinds = {"models/a/x": "adapter", "out/checkpoint-30/trainer_state.json": "trainer_state"}
    listed = [{"path": name, "kind": kind, "bytes": 1, "sha256": _sha(files[name])} for name, kind in kinds.items()]
    listed += [
        {"path": f"{kind}.bin", "kind": kind, "bytes": 1, "sha256": SHA} for kind in (*manifest.ARTIFACTS, "tracker")
    ]
    (home / "MANIFEST.json").write_text(json.dumps({"contract": 1, "steps": {"sft": 1}, "files": listed}))
    found = {name: _sha(files[name]) for name in ("training.log", "out/checkpoint-30/trainer_state.json")}
    (home / manifest.FOUND).write_text(json.dumps(found))
    return SimpleNamespace(job=job, directory=tmp_path, history=SimpleNamespace(artifact=None))


SPOILT: dict[str, tuple[Callable[[Path], object], int, tuple[str, ...]]] = {
    "nothing": (lambda _: None, 2, ()),
    "no log": (lambda home: (home / "training.log").unlink(), 2, ("training.log is missing",)),
    "no account": (lambda home: (home / "run.json").unlink(), 2, ("run.json is missing",)),
    "one that is listed is not there": (lambda home: (home / "models/a/x").unlink(), 1, ("models/a/x is missing",)),
    "another in its place": (
        lambda home: (home / "models/a/x").write_bytes(b"y"),
        1,
        ("models/a/x is not the file that the manifest states",),
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_the_small_files_are_those_that_the_manifest_states(name: str, tmp_path: Path) -> None:
    """The artifact itself and a tracker's events are no companions."""
    context = _at_home(tmp_path)
    spoil, verified, problems = SPOILT[name]
    spoil(tmp_path / "companions")
    assert postdownload._companions(context) == Companions(verified, problems)


def _link_away(path: Path) -> None:
    path.symlink_to(path.rename(path.with_name("elsewhere")))


STATE = "out/checkpoint-30/trainer_state.json"
FOUND: dict[str, tuple[Callable[[dict[str, str], Path], object], int, tuple[str, ...]]] = {
    "nothing": (lambda _found, _home: None, 2, ()),
    "no log": (lambda found, _: found.pop("training.log"), 1, ("training.log is missing",)),
    "no state": (lambda found, _: found.pop(STATE), 1, ("out/ is missing",)),
    "another in its place": (
        lambda _, home: (home / STATE).write_bytes(b"[]"),
        1,
        (f"{STATE} is not as it was on the box",),
    ),
    "a link": (lambda _, home: _link_away(home / STATE), 1, (f"{STATE} is not as it was on the box",)),
}


@pytest.mark.parametrize("name", FOUND)
def test_an_unmodified_trainers_small_files_are_those_that_were_on_the_box(name: str, tmp_path: Path) -> None:
    context, home = _at_home(tmp_path, unmodified=True), tmp_path / "companions"
    spoil, verified, problems = FOUND[name]
    found = json.loads((home / manifest.FOUND).read_text())
    spoil(found, home)
    (home / manifest.FOUND).write_text(json.dumps(found))
    assert postdownload._companions(context) == Companions(verified, problems)


def test_a_second_copy_is_read_where_the_job_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def read_back(*told: object) -> Hashed:
        asked.append(told)
        return Hashed(1, SHA)

    monkeypatch.setattr(elsewhere, "read_back", read_back)
    artifact = Artifact("/box/m.gguf", 1, SHA)
    history = SimpleNamespace(artifact=artifact)
    far: Any = SimpleNamespace(
        job=sound_job(artifact={"second_copy": None, "second_copy_url": "s3://mine/x"}), history=history
    )
    assert postdownload._second_copy(far, tmp_path / "m.gguf") == Hashed(1, SHA)
    assert asked == [("m.gguf", artifact, "s3://mine/x")]
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "m.gguf").write_bytes(b"here")
    near: Any = SimpleNamespace(job=sound_job(artifact={"second_copy": tmp_path / "copy"}), history=history)
    assert postdownload._second_copy(near, tmp_path / "m.gguf") == Hashed(4, Sha256(_sha(b"here")))
    none: Any = SimpleNamespace(job=near.job.model_copy(deep=True), history=history)
    none.job = none.job.model_copy(update={"artifact": none.job.artifact.model_copy(update={"second_copy": None})})
    with pytest.raises(CouldNotLook, match="the job asks for no second copy"):
        postdownload._second_copy(none, tmp_path / "m.gguf")
    assert len(asked) == 1


def _touch(place: Path) -> None:
    place.write_bytes(b"x")


def _folder(place: Path) -> None:
    place.mkdir()
    (place / "a").touch()


def _linked(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def act(place: Path) -> None:
        make(place.with_name("elsewhere"))
        place.symlink_to(place.with_name("elsewhere"))

    return act


def _with_a_link(place: Path) -> None:
    _folder(place)
    (place / "b").symlink_to(place / "a")


@pytest.mark.parametrize(
    ("make", "of_file", "of_folder"),
    [
        pytest.param(lambda _: None, False, False, id="nothing"),
        pytest.param(_touch, True, False, id="a file"),
        pytest.param(_folder, False, True, id="a folder"),
        pytest.param(Path.mkdir, False, False, id="an empty folder"),
        pytest.param(_linked(_touch), False, False, id="a link to a file"),
        pytest.param(_linked(_folder), False, False, id="a link to a folder"),
        pytest.param(_with_a_link, False, False, id="a folder with a link"),
    ],
)
def test_only_what_is_itself_here_is_regular(
    make: Callable[[Path], None], of_file: bool, of_folder: bool, tmp_path: Path
) -> None:
    place, other = tmp_path / "model", tmp_path / "other"
    make(place)
    other.mkdir()
    (other / "a").touch()
    hashed, files = parts.here(other)
    for artifact, regular in (
        (Artifact("/x", 1, SHA), of_file),
        (Artifact("/x", 1, hashed.sha256, files), of_folder),
    ):
        told = postdownload._local(place, artifact)
        assert (told.path, told.regular, told.partial) == (str(place), regular, ())
        assert told.exists is place.exists()


def test_what_is_unfinished_beside_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.incoming").mkdir()
    assert postdownload._local(tmp_path / "model", Artifact("/x", 1, SHA)).partial == ("model.incoming",)


@pytest.mark.parametrize("wanted", [True, False])
def test_a_model_is_made_to_speak_where_the_job_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, wanted: bool
) -> None:
    asked = list[tuple[Path, str]]()
    monkeypatch.setattr(runtime, "generate", lambda *words: asked.append(words))
    context: Any = SimpleNamespace(job=sound_job(gates={"generate": wanted, "prompt": "EURUSD?"}))
    with nullcontext() if wanted else pytest.raises(CouldNotLook, match="asks for no generation"):
        postdownload._generation(context, tmp_path / "m.gguf")
    assert asked == [(tmp_path / "m.gguf", "EURUSD?")] * wanted
