"""What lies at the place of a verified artifact, held against the release: the same file, and in a folder no other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.artifacts import digest, parts
from harness.artifacts.parts import ArtifactFile
from harness.core import regular_file
from harness.core.errors import Refused
from harness.core.ids import Sha256
from harness.guard.hold import HeldArtifact, HeldFile
from harness.release import release as releases
from harness.release.release import Release
from tests.support.job_histories import DIGEST, Log

OTHER = Sha256("ef" * 32)


@pytest.fixture
def release() -> Release:
    log = Log().verified()
    return releases.statement(log.history, "vast", log.at)


def held(place: Path, sha256: Sha256 = DIGEST) -> HeldArtifact:
    return HeldArtifact(place, sha256, (), "look again")


def test_the_file_that_is_held_is_the_one_that_is_released(release: Release, tmp_path: Path) -> None:
    held(tmp_path / "model").require_in_place(release)
    for one in (held(tmp_path / "model", OTHER).require_in_place, held(tmp_path / "model", OTHER).require_size):
        with pytest.raises(Refused, match=f"it is the file with the SHA-256 {OTHER}, the release names {DIGEST}"):
            one(release)


def test_of_a_folder_no_file_is_more_and_none_is_less(release: Release, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    hashed, files = parts.here(tmp_path)
    of_folder = replace(release, sha256=hashed.sha256, files=files)
    held(tmp_path, hashed.sha256).require_in_place(of_folder)
    with pytest.raises(Refused, match="b is in the folder, and the release does not name it"):
        held(tmp_path, hashed.sha256).require_in_place(replace(of_folder, files=files[:1]))
    more = (*files, ArtifactFile("c", 1, OTHER))
    with pytest.raises(Refused, match="c does not exist"):
        held(tmp_path, hashed.sha256).require_size(replace(of_folder, files=more))
    with pytest.raises(Refused, match="the release names"):
        held(tmp_path, OTHER).require_in_place(of_folder)


def a_file(folder: Path, data: bytes = b"GGUF") -> HeldFile:
    """A verified file, not taken hold of yet."""
    path = folder / "model.gguf"
    path.write_bytes(data)
    sha256 = digest.of_bytes(data)
    return HeldFile(path, ArtifactFile("", len(data), sha256), folder / "held" / sha256, folder, "look again")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[HeldFile]:
    made = a_file(tmp_path)
    yield made
    if made.file is not None:
        made.file.close()


def test_what_was_never_read_is_not_in_place(file: HeldFile) -> None:
    file.require_size()
    with pytest.raises(Refused, match="was changed while it was looked at"):
        file.require_in_place()
    file.require_bytes()
    file.require_in_place()
    file.path.touch()
    os.utime(file.path, (1, 1))
    with pytest.raises(Refused, match="was changed while it was looked at"):
        file.require_in_place()


def _unreadable(monkeypatch: pytest.MonkeyPatch, _: HeldFile) -> None:
    def failing(path: Path) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(regular_file, "opened", failing)


def _no_folder(_: pytest.MonkeyPatch, file: HeldFile) -> None:
    file.path = file.path / "model.gguf"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda _, file: file.path.unlink(), "model.gguf does not exist"),
        (_no_folder, "model.gguf/model.gguf does not exist"),
        (_unreadable, "model.gguf cannot be read: Permission denied"),
        (lambda _, file: file.path.write_bytes(b"GGU"), "has 3 bytes, the release names 4"),
    ],
)
def test_what_cannot_be_taken_hold_of_is_not_released(
    spoil: Callable[[pytest.MonkeyPatch, HeldFile], object],
    said: str,
    file: HeldFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil(monkeypatch, file)
    for look in (file.require_size, file.require_bytes):
        with pytest.raises(Refused, match=said) as refused:
            look()
        assert refused.value.remedy == "look again"


def test_what_has_the_name_of_the_held_file_is_kept_beside_it(file: HeldFile, tmp_path: Path) -> None:
    told: list[str] = []
    file.require_size()
    file.path.unlink()
    file.path.write_bytes(b"mine")
    file.put_back(told.append)
    assert file.path.read_bytes() == b"GGUF"
    (aside,) = tmp_path.glob("model.gguf.rejected-*")
    assert aside.read_bytes() == b"mine"
    (said,) = told
    assert said == (
        f"{file.path} was taken away meanwhile: its bytes were held, and are back; what had its name is kept as "
        f"{aside.name}"
    )
    file.path.unlink()
    file.put_back(told.append)
    assert told[1].endswith("are back")


def _copy(file: HeldFile) -> None:
    """Another file, with the very bytes."""
    file.path.unlink()
    file.path.write_bytes(b"GGUF")


@pytest.mark.parametrize(
    ("act", "left"),
    [(lambda _: None, b"GGUF"), (_copy, b"GGUF"), (lambda file: file.path.write_bytes(b"????"), b"????")],
    ids=["nothing", "a copy of it in its place", "its bytes were changed"],
)
def test_nothing_is_put_back_where_its_bytes_are_or_are_no_more(
    act: Callable[[HeldFile], object], left: bytes, file: HeldFile, tmp_path: Path
) -> None:
    file.put_back(pytest.fail)
    file.require_size()
    act(file)
    file.put_back(pytest.fail)
    assert file.path.read_bytes() == left
    assert not list(tmp_path.glob("*.rejected-*"))


def test_where_the_bytes_are_kept_is_said(file: HeldFile) -> None:
    assert file.keep() == "and nowhere else on this machine"
    file.require_size()
    file.link.unlink()
    file.path.unlink()
    assert file.keep() == f"its bytes are in {file.link}"
    assert file.link.read_bytes() == b"GGUF"
    file.let_go()
    assert not file.link.exists()
    file.let_go()


def test_of_a_folder_that_is_let_go_no_second_name_and_no_empty_folder_stays(tmp_path: Path) -> None:
    place, second = tmp_path / "model", tmp_path / "held" / "sha"
    (place / "sub" / "deep").mkdir(parents=True)
    (second / "sub").mkdir(parents=True)
    (second / "others").write_bytes(b"another's")
    parts_of = [ArtifactFile(name, 1, digest.of_bytes(b"a")) for name in ("sub/deep/a", "sub/b")]
    for part in parts_of:
        part.at(place).write_bytes(b"a")
    files = tuple(HeldFile(part.at(place), part, part.at(second), tmp_path, "look again") for part in parts_of)
    artifact = HeldArtifact(place, DIGEST, files, "look again")
    for file in files:
        file.require_size()
        assert file.link.exists()
    artifact.close()
    assert all(file.file is not None and file.file.closed for file in files)
    artifact.let_go()
    assert [path.name for path in second.rglob("*")] == ["others"]


def test_a_file_that_cannot_be_put_back_keeps_none_of_the_others_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    told: list[str] = []
    files = (a_file(tmp_path / "1"), a_file(tmp_path / "2"))
    artifact = HeldArtifact(tmp_path, DIGEST, files, "look again")
    for file in files:
        file.require_size()
        file.path.unlink()
    link = os.link

    def full(source: Path, target: Path) -> None:
        if target == files[0].path:
            raise OSError(28, "No space left on device")
        link(source, target)

    monkeypatch.setattr(os, "link", full)
    assert not artifact.put_back(told.append)
    assert [file.path.exists() for file in files] == [False, True]
    assert f"cannot be put back ([Errno 28] No space left on device): its bytes are in {files[0].link}" in told[0]
    monkeypatch.setattr(os, "link", link)
    assert artifact.put_back(told.append)
    assert files[0].path.read_bytes() == b"GGUF"
    artifact.close()
