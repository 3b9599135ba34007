"""A bundle holds what its log names and what came with the model; what is none, or was changed, is refused."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import BadInput
from harness.ledger import bundle
from harness.ledger.history import fold
from tests.support.job_histories import Log


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A job's folder, with more in it than a bundle takes."""
    folder = tmp_path / "job"
    for name in (
        "evidence/postdownload.json",
        "evidence/training-1.json",
        "companions/run.json",
        "companions/models/output/adapter/tokenizer.json",
        "artifact/model.gguf",
        "host-key-4711",
        "release-30.json",
        "release-30.dsse.json",
        "release-12.json",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def _names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_it_holds_what_the_log_names_and_what_came_with_the_model(directory: Path, tmp_path: Path) -> None:
    history = Log().closed().history
    first, again = tmp_path / "one.zip", tmp_path / "two.zip"
    assert bundle.write(first, history, directory) == ()
    assert _names(first) == [
        "log.json",
        "evidence/postdownload.json",
        "release-30.dsse.json",
        "release-30.json",
        "companions/models/output/adapter/tokenizer.json",
        "companions/run.json",
    ]
    bundle.write(again, history, directory)
    assert first.read_bytes() == again.read_bytes()
    records = bundle.read(first, tmp_path / "there").records
    assert records == history.records
    assert fold(records).closed
    assert (tmp_path / "there/evidence/postdownload.json").read_bytes() == b"evidence/postdownload.json"


def test_what_is_too_large_is_left_out_and_named(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "LARGEST", 30)
    left_out = bundle.write(tmp_path / "b.zip", Log().closed().history, directory)
    assert left_out == ("companions/models/output/adapter/tokenizer.json",)
    assert left_out[0] not in _names(tmp_path / "b.zip")


def test_a_link_out_of_the_folder_is_not_followed(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mine", encoding="utf-8")
    (directory / "companions" / "stolen").symlink_to(tmp_path / "secret")
    bundle.write(tmp_path / "b.zip", Log().closed().history, directory)
    assert "companions/stolen" not in _names(tmp_path / "b.zip")


def _packed(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def _log(change: Callable[[list[dict[str, Any]]], object] = lambda _: None, **more: Any) -> bytes:
    records = [
        {name: getattr(record, name) for name in record.__slots__} | {"data": dict(record.data)}
        for record in Log().closed().records
    ]
    change(records)
    return json.dumps({"format": 1, "records": records, **more}).encode()


def test_what_climbs_out_of_the_folder_stays_in_it(tmp_path: Path) -> None:
    evil = {"log.json": _log(), "evidence/../../../out.json": b"x", "/abs/evidence/x": b"x", "../up.json": b"x"}
    there = tmp_path / "deep" / "there"
    bundle.read(_packed(tmp_path / "b.zip", evil), there)
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(there)]
    assert outside == [tmp_path / "b.zip"]


REFUSED: dict[str, tuple[dict[str, bytes], str]] = {
    "no log": ({"evidence/x.json": b"{}"}, "is not a bundle"),
    "a log that is no JSON": ({"log.json": b"{"}, "is not a bundle"),
    "another format": ({"log.json": _log(format=2)}, "not of format 1"),
    "an empty log": ({"log.json": _log(list.clear)}, "it is empty"),
    "an event that was changed": (
        {"log.json": _log(lambda told: told[3].update(at=1.0))},
        "event 4 .* was changed after it was written",
    ),
    "an event that is left out": ({"log.json": _log(lambda told: told.pop(3))}, "event 4 missing"),
    "a field too many": ({"log.json": _log(lambda told: told[0].update(more=1))}, "is not a bundle"),
    "a job that has no name": ({"log.json": _log(lambda told: told[0].update(job="../x"))}, "is not a bundle"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_bundle_or_was_changed_is_refused(kind: str, tmp_path: Path) -> None:
    entries, said = REFUSED[kind]
    with pytest.raises(BadInput, match=said):
        bundle.read(_packed(tmp_path / "b.zip", entries), tmp_path / "there")


@pytest.mark.parametrize(
    "data",
    [
        *(b"{", b"", b"\xff", b"3", b"null", b"[]", b"{}"),
        *(b'{"format": 1}', b'{"format": 1, "records": 3}', b'{"format": 1, "records": [3]}'),
    ],
)
def test_an_unpacked_log_that_was_spoilt_since_is_no_log(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "log.json").write_bytes(data)
    with pytest.raises(BadInput, match=r"log\.json"):
        bundle.unpacked(tmp_path)


def test_a_file_that_is_no_archive_or_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.zip").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(BadInput, match="is not a bundle"):
        bundle.read(tmp_path / "b.zip", tmp_path / "there")
    with pytest.raises(BadInput, match="cannot read the bundle"):
        bundle.read(tmp_path / "none.zip", tmp_path / "there")


SPOILT = {
    "a password": (8, b"\x01"),
    "a method that nobody knows": (10, b"\x63"),
    "more bytes than there are": (20, b"\xff\xff\x0f\x00\xff\xff\x0f\x00"),
    "the wrong sum": (16, b"\x00\x00\x00\x00"),
    "no such method's data": (10, b"\x08"),
}
"""Of an entry's row in the archive's directory: the place, and what stands there (APPNOTE.TXT 4.3.12)."""


@pytest.mark.parametrize("kind", SPOILT)
def test_an_archive_that_cannot_be_unpacked_is_no_bundle(kind: str, tmp_path: Path) -> None:
    path = _packed(tmp_path / "b.zip", {"log.json": _log(), "evidence/x.json": b"{}"})
    place, data = SPOILT[kind]
    spoilt = bytearray(path.read_bytes())
    for row in (spoilt.index(b"PK\x01\x02"), spoilt.rindex(b"PK\x01\x02")):
        path.write_bytes(spoilt[: row + place] + data + spoilt[row + place + len(data) :])
        with pytest.raises(BadInput, match="is not a bundle"):
            bundle.read(path, tmp_path / "there")


def test_more_than_a_bundle_can_be_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "_MOST", 1000)
    path = _packed(tmp_path / "b.zip", {"log.json": _log(), "evidence/zeros": bytes(5000)})
    with pytest.raises(BadInput, match="larger than a bundle can be"):
        bundle.read(path, tmp_path / "there")
    assert not (tmp_path / "there").exists()
