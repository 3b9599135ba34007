"""What an arrival leaves beside its place: told, and swept once the artifact is finished, nothing else with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.artifacts import arrival, digest
from harness.artifacts.parts import Artifact, ArtifactFile

LEFT_BY_A_FILE = ("model.part", "model.part.journal", ".model.0123abcd.part")
BESIDE_IT = ("model", "model.log", "other.part")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("gathered", [False, True])
def test_what_an_arrival_left_is_told_and_swept(tmp_path: Path, gathered: bool) -> None:
    for name in (*LEFT_BY_A_FILE, *BESIDE_IT):
        (tmp_path / name).touch()
    place = tmp_path / "model"
    if gathered:
        (arrival.incoming(place) / "deep").mkdir(parents=True)
        (arrival.incoming(place) / "deep" / "weights.part").touch()
    told = {path.name for path in arrival.unfinished(place)}
    assert told == {*LEFT_BY_A_FILE, *([arrival.incoming(place).name] if gathered else [])}
    arrival.sweep(place)
    assert names(tmp_path) == set(BESIDE_IT)


def test_read_only_files_hold_no_sweep_where_windows_deletes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathering = arrival.incoming(tmp_path / "model")
    (gathering / "deep").mkdir(parents=True)
    (gathering / "deep" / "weights").touch(mode=0o444)
    rmtree = shutil.rmtree

    def of_folders_alone(folder: Path) -> None:
        assert not [path for path in folder.rglob("*") if path.is_file()]
        rmtree(folder)

    monkeypatch.setattr(shutil, "rmtree", of_folders_alone)
    arrival.sweep(tmp_path / "model")
    assert not gathering.exists()


def test_only_the_very_file_is_here(tmp_path: Path) -> None:
    place, other = tmp_path / "model", digest.of_bytes(b"other")
    wanted = digest.of_bytes(b"weights")
    assert not arrival.is_here(place, wanted)
    place.write_bytes(b"weights")
    assert arrival.is_here(place, wanted)
    assert not arrival.is_here(place, other)
    (tmp_path / "link").symlink_to(place)
    assert not arrival.is_here(tmp_path / "link", wanted)
    assert not arrival.is_here(tmp_path, wanted)


@pytest.mark.parametrize("kind", ["file", "folder", "link to nothing"])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_has_the_name_is_put_aside_and_never_lost(tmp_path: Path, kind: str, elsewhere: bool) -> None:
    place, folder = tmp_path / "model", tmp_path / "aside" if elsewhere else None
    (tmp_path / "aside").mkdir()
    assert arrival.make_way(place, folder) is None
    if kind == "file":
        place.write_bytes(b"another")
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to("nothing")
    aside = arrival.make_way(place, folder)
    assert aside is not None
    assert (aside.exists(), aside.is_symlink()) == (kind != "link to nothing", kind == "link to nothing")
    assert aside.parent == (folder or tmp_path)
    assert aside.name.startswith("model.rejected-")
    assert not place.is_symlink()
    assert not place.exists()


def test_a_folder_gets_its_name_with_the_artifacts_files_alone(tmp_path: Path) -> None:
    arriving = tmp_path / "model.incoming"
    for name in ("config.json", "deep/weights", "deep/weights.part", "stray"):
        (arriving / name).parent.mkdir(parents=True, exist_ok=True)
        (arriving / name).write_bytes(b"1")
    named = tuple(ArtifactFile(name, 1, digest.of_bytes(b"1")) for name in ("config.json", "deep/weights"))
    arrival.publish(arriving, tmp_path / "model", Artifact("/box/model", 2, digest.of_bytes(b""), named))
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"model/config.json", "model/deep/weights"}
