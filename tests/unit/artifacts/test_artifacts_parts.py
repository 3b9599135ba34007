"""An artifact of one file and of several: one digest for each, names that every system holds, differences by name."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts import adapter, finals, parts
from harness.artifacts.parts import ArtifactFile
from harness.core.answers import Entry
from harness.core.errors import BadInput
from harness.core.ids import Sha256

A, B = Sha256("a" * 64), Sha256("b" * 64)


def _written(folder: Path, **files: bytes) -> Path:
    folder.mkdir()
    for name, data in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def test_one_file_is_named_by_its_own_digest(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"model")
    hashed, files = parts.here(tmp_path / "m.gguf")
    assert hashed.sha256 == hashlib.sha256(b"model").hexdigest()
    assert files == (ArtifactFile("", 5, hashed.sha256),)


def test_the_order_in_which_files_are_told_does_not_matter() -> None:
    files = [ArtifactFile("b", 1, A), ArtifactFile("a/c", 2, B), ArtifactFile("a", 3, A)]
    with pytest.raises(BadInput):
        parts.of_files("/x", files)
    assert parts.of_files("/x", files[:2]) == parts.of_files("/x", reversed(files[:2]))


def test_a_folder_here_has_the_digest_of_what_was_recorded(tmp_path: Path) -> None:
    folder = _written(tmp_path / "m", b=b"1", a__c=b"22", é=b"")
    hashed, files = parts.here(folder)
    told = parts.of_files("/box/m", files)
    assert (hashed.size, hashed.sha256) == (told.size, told.sha256) == (3, told.sha256)
    assert parts.recorded("/box/m", told.size, told.sha256, parts.entries(told.files)) == told
    assert parts.differences(files, told.parts) == ()


CHANGES = [
    ([ArtifactFile("a", 1, A)], [ArtifactFile("a", 1, B)], "a has the SHA-256"),
    ([ArtifactFile("a", 1, A)], [ArtifactFile("a", 2, A)], "a has 1 bytes, recorded are 2"),
    ([], [ArtifactFile("a", 1, A)], "a is missing"),
    ([ArtifactFile("a", 1, A), ArtifactFile("z", 1, A)], [ArtifactFile("a", 1, A)], "z is not of the artifact"),
    ([ArtifactFile("", 1, A)], [ArtifactFile("", 2, A)], "the file has 1 bytes"),
]


@pytest.mark.parametrize(("found", "named", "words"), CHANGES)
def test_a_difference_is_told_by_name(found: list[ArtifactFile], named: list[ArtifactFile], words: str) -> None:
    (told,) = parts.differences(found, named)
    assert words in told


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("sha256", "b" * 64), ("sha256", "short"), ("sha256", 5), ("sha256", None)],
        *[("bytes", 7), ("bytes", "1"), ("bytes", None), ("path", "../a"), ("path", 5), ("path", None)],
    ],
)
def test_a_record_that_was_changed_does_not_read(field: str, value: Any) -> None:
    told = parts.of_files("/x", [ArtifactFile("a", 1, A), ArtifactFile("b", 1, A)])
    changed = [dict(one) for one in parts.entries(told.files)]
    changed[0][field] = value
    if value is None:
        del changed[0][field]
    with pytest.raises(ValueError, match=r"artifact.s|SHA-256"):
        parts.recorded("/x", told.size, told.sha256, changed)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a", "A"], "one name on Windows"),
        (["stra\u00dfe", "STRASSE"], "one name on Windows"),
        (["a", "a"], "one name on Windows"),
        (["x", "X/y"], "lies in what is a file"),
        (["a", "A/b/c"], "lies in what is a file"),
        (["a/b", "A/B/c"], "lies in what is a file"),
        (["a/b/c", "a/b/d"], ""),
        (["../x"], "not a safe relative path"),
        (["/etc/passwd"], "not a safe relative path"),
        (["C:/x"], "not a safe relative path"),
        (["nul"], "not a safe relative path"),
        (["a//b"], "not a safe relative path"),
        ([], "0 files"),
        ([str(number) for number in range(513)], "it has 513 files: an artifact has 1 to 512"),
        (["x" * 201], "200 at most"),
        (["x/" * 99 + "yz"], ""),
        ([str(number) for number in range(512)], ""),
        (["a", "b/a", "b/b"], ""),
    ],
)
def test_names_that_cannot_lie_everywhere(names: list[str], words: str) -> None:
    told = parts.names_problem(names)
    assert (told is None) is not bool(words)
    assert words in (told or "")


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes of POSIX")
def test_links_and_pipes_are_no_files(tmp_path: Path) -> None:
    folder = _written(tmp_path / "m", a=b"1")
    (folder / "link").symlink_to(folder / "a")
    (folder / "folder").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    assert parts.links(folder) == ("folder", "link", "pipe")
    with pytest.raises(BadInput):
        parts.here(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="links of POSIX")
@pytest.mark.parametrize("inside", [True, False])
def test_a_link_is_not_the_file_that_it_leads_to(tmp_path: Path, inside: bool) -> None:
    folder = _written(tmp_path / "m", a=b"1", b=b"1")
    target = (folder / "b").rename(folder / "c" if inside else tmp_path / "c")
    (folder / "b").symlink_to(target)
    assert parts.links(folder) == ("b",)
    with pytest.raises(BadInput, match="b is a link, and not the file itself"):
        parts.here(folder)


def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match="nothing cannot be read: No such file"):
        parts.listed(tmp_path / "nothing")
    folder = _written(tmp_path / "m", a=b"1", below__b=b"2")
    scandir = os.scandir

    def closed(path: str) -> Any:
        if Path(path).name == "below":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(BadInput, match="below cannot be read: Permission denied"):
        parts.here(folder)


def test_where_each_file_of_an_artifact_lies() -> None:
    assert ArtifactFile("", 1, A).at(Path("m.gguf")) == Path("m.gguf")
    assert ArtifactFile("a/b", 1, A).at(Path("m")) == Path("m/a/b")


def test_an_artifact_of_one_file_is_recorded_without_entries() -> None:
    told = parts.recorded("/box/m.gguf", 5, A, None)
    assert (told.path, told.size, told.sha256, told.files) == ("/box/m.gguf", 5, A, ())
    assert told.parts == (ArtifactFile("", 5, A),)


def _entries(*names: str, kind: str = "file") -> list[Entry]:
    return [Entry(f"/box/final/{name}", kind, 9, 0.0) for name in names]


SPLIT = [f"m.Q8_0-{number:05d}-of-00003.gguf" for number in (1, 2, 3)]
PICKS: list[tuple[str, list[str], str]] = [
    ("gguf", ["m.gguf"], ""),
    ("gguf", ["m-00001-of-00001.gguf"], ""),
    ("gguf", SPLIT, ""),
    ("gguf", [], "0 files match"),
    ("gguf", SPLIT[1:], f"{SPLIT[1]} is one of 3 files: {SPLIT[0]} not there"),
    ("gguf", [*SPLIT, "other.gguf"], "other.gguf is not of its split"),
    ("gguf", ["a.gguf", "b.gguf"], "2 files match *.gguf: b.gguf beside a.gguf"),
    ("merged", ["config.json", "model.safetensors"], ""),
    ("merged", ["config.json", "pytorch_model.bin"], "lacks model.safetensors"),
    ("merged", ["model.safetensors"], "lacks config.json"),
    ("merged", [], "lacks config.json, model.safetensors: it holds nothing"),
    ("adapter", ["adapter_config.json", "adapter_model.safetensors", "README.md"], ""),
    ("adapter", ["adapter_config.json", "adapter_model.bin"], "lacks adapter_model.safetensors"),
    ("adapter", ["adapter_model.safetensors"], "lacks adapter_config.json: it holds"),
    ("merged", ["config.json", "model-00001-of-00001.safetensors"], ""),
    ("merged", ["config.json", "model.safetensors", "CONFIG.json"], "one name on Windows"),
    ("adapter", ["adapter_config.json", "adapter_model.safetensors", "a\nb"], "not a safe relative path"),
]


@pytest.mark.parametrize(("kind", "names", "words"), PICKS)
def test_what_is_picked(kind: str, names: list[str], words: str) -> None:
    if not words:
        assert finals.pick(kind, "/box/final", _entries(*names)) == tuple(sorted(names))
        return
    with pytest.raises(BadInput) as refused:
        finals.pick(kind, "/box/final", _entries(*names))
    assert words in str(refused.value)


@pytest.mark.parametrize("kind", ["merged", "adapter"])
def test_what_is_no_file_is_not_picked(kind: str) -> None:
    names = ("config.json", "model.safetensors", "adapter_config.json", "adapter_model.safetensors")
    assert len(finals.pick(kind, "/box/final", _entries(*names))) == 4
    with pytest.raises(BadInput, match="/box/final/odd is a link, and not a file"):
        finals.pick(kind, "/box/final", [*_entries(*names), *_entries("odd", kind="link")])


@pytest.mark.parametrize(
    ("path", "belongs", "unfinished"),
    [
        ("config.json", True, False),
        ("model/weights.safetensors", True, False),
        ("model/checkpoint-7", True, False),
        ("checkpoint-7/optimizer.pt", False, False),
        (".cache/x", False, False),
        ("model/.cache/x", False, False),
        ("model/.gitattributes", False, False),
        *[(f"model.gguf{end}", True, True) for end in (".partial", ".incomplete", ".tmp", ".part")],
        ("parts.json", True, False),
    ],
)
def test_what_belongs_to_a_models_folder_and_what_is_still_written(path: str, belongs: bool, unfinished: bool) -> None:
    assert (finals.belongs(path), finals.unfinished(path)) == (belongs, unfinished)


@pytest.mark.parametrize(
    ("named", "revision", "told"),
    [
        ("meta-llama/Llama-3.2-1B", None, ("meta-llama/Llama-3.2-1B", None)),
        ("/models/base/", "main", ("/models/base", "main")),
        ("/root/.cache/huggingface/hub/models--a--b-c/snapshots/0123abc", None, ("a/b-c", "0123abc")),
        ("C:\\Users\\me\\hub\\models--a--b\\snapshots\\0123", "r", ("a/b", "r")),
        ("", None, (None, None)),
        (None, "", (None, None)),
        (7, 7, (None, None)),
    ],
)
def test_the_base_that_an_adapter_names(named: Any, revision: Any, told: tuple[str | None, str | None]) -> None:
    assert adapter.base_of({"base_model_name_or_path": named, "revision": revision}) == told
