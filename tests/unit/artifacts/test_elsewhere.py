"""A second copy at an address: put there whole, read back to the last byte, nothing replaced, no key in the address."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from pydantic import ValidationError

from harness.artifacts import digest, elsewhere, parts
from harness.artifacts.parts import Artifact, ArtifactFile
from harness.core.errors import BadInput, MissingExtra, TransferFailed
from harness.core.lifecycle import Stage
from harness.facts import postdownload as looking
from harness.job.artifact import ArtifactTable
from tests.support.context import make_world
from tests.support.scripted_world import MODEL

NAME = "model.gguf"


@pytest.fixture
def there(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An address of a back end that is really used."""
    address = "memory://bucket/models" if request.param == "memory" else (tmp_path / "far" / "models").as_uri()
    yield address
    fsspec.filesystem("memory").store.clear()


def _file(folder: Path, data: bytes = MODEL) -> tuple[Path, Artifact]:
    local = folder / NAME
    local.write_bytes(data)
    return local, Artifact(f"/box/{NAME}", len(data), digest.of_bytes(data))


def _folder(folder: Path) -> tuple[Path, Artifact]:
    local = folder / "merged"
    for name in ("config.json", "deep/model.safetensors"):
        (local / name).parent.mkdir(parents=True, exist_ok=True)
        (local / name).write_text(name)
    names = ("config.json", "deep/model.safetensors")
    found = [ArtifactFile(name, len(name), digest.of_bytes(name.encode())) for name in names]
    return local, parts.of_files("/box/merged", found)


@pytest.mark.parametrize("there", ["memory", "file"], indirect=True)
@pytest.mark.parametrize("make", [_file, _folder])
def test_it_is_put_there_and_read_back(tmp_path: Path, there: str, make: Any) -> None:
    local, artifact = make(tmp_path)
    elsewhere.copy(local, artifact, there)
    assert elsewhere.read_back(local.name, artifact, there) == digest.Hashed(artifact.size, artifact.sha256)
    files, root = fsspec.core.url_to_fs(there)
    assert len(files.find(root)) == len(artifact.parts), "and nothing unfinished beside it"


@pytest.mark.parametrize("there", ["memory", "file"], indirect=True)
def test_one_flipped_byte_is_seen_and_not_replaced(tmp_path: Path, there: str) -> None:
    local, artifact = _file(tmp_path)
    elsewhere.copy(local, artifact, there)
    bad = bytes([MODEL[0] ^ 1]) + MODEL[1:]
    with fsspec.open(f"{there}/{NAME}", "wb") as file:
        file.write(bad)
    assert elsewhere.read_back(NAME, artifact, there).sha256 == digest.of_bytes(bad)
    with pytest.raises(BadInput, match="is another file, and nothing there is replaced"):
        elsewhere.copy(local, artifact, there)
    with fsspec.open(f"{there}/{NAME}", "rb") as file:
        assert file.read() == bad


@pytest.mark.parametrize("there", ["memory"], indirect=True)
def test_one_that_is_there_already_is_not_sent_again(
    tmp_path: Path, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    local, artifact = _file(tmp_path)
    elsewhere.copy(local, artifact, there)
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "put_file", lambda *_: pytest.fail("sent again"))
    elsewhere.copy(local, artifact, there)


@pytest.mark.parametrize("there", ["memory", "file"], indirect=True)
def test_what_was_cut_off_is_never_taken_for_the_file(
    tmp_path: Path, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    local, artifact = _file(tmp_path)
    kind = type(fsspec.core.url_to_fs(there)[0])
    put = kind.put_file

    def cut(self: Any, _: str, target: str, *rest: Any, **more: Any) -> None:
        (tmp_path / "half").write_bytes(MODEL[:3])
        put(self, str(tmp_path / "half"), target, *rest, **more)
        raise ConnectionResetError("cut")

    with monkeypatch.context() as patch:
        patch.setattr(kind, "put_file", cut)
        with pytest.raises(TransferFailed, match="ConnectionResetError: cut"):
            elsewhere.copy(local, artifact, there)
    with pytest.raises(TransferFailed, match="FileNotFoundError"):
        elsewhere.read_back(NAME, artifact, there)
    elsewhere.copy(local, artifact, there)
    assert elsewhere.read_back(NAME, artifact, there).sha256 == artifact.sha256


def test_an_address_that_nothing_reaches_is_said() -> None:
    with pytest.raises(BadInput, match="nothing that is installed reaches gopher://hole"):
        elsewhere.require("gopher://hole")


def test_without_fsspec_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtra) as told:
        elsewhere.require("memory://x")
    assert "gold-standard-harness[push]" in told.value.remedy


@pytest.mark.parametrize(
    "address",
    ["s3://KEY:SECRET@bucket/x", "sftp://me@host/x", "https://host/x?token=abc", "bucket/x", "s3://a b", "", "S3://x"],
)
def test_a_key_in_an_address_and_what_is_none_are_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="second_copy_url"):
        ArtifactTable.model_validate({"floors": {"Q8_0": 1}, "second_copy_url": address})


def test_two_second_copies_are_refused(tmp_path: Path) -> None:
    table = {"floors": {"Q8_0": 1}, "second_copy_url": "s3://bucket", "second_copy": tmp_path}
    with pytest.raises(ValidationError, match="one second copy"):
        ArtifactTable.model_validate(table)


@pytest.mark.parametrize("there", ["memory"], indirect=True)
def test_a_whole_job_makes_it_and_its_gate_reads_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, artifact={"second_copy_url": there})
    world.run(until=Stage.POSTDOWNLOAD)
    assert world.history.artifact is not None
    found = looking.look(world.context()).second_copy.get()
    assert found.sha256 == world.history.artifact.sha256
    with fsspec.open(f"{there}/model.Q8_0.gguf", "wb") as file:
        file.write(b"another")
    assert looking.look(world.context()).second_copy.get().sha256 != world.history.artifact.sha256
