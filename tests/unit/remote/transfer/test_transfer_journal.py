"""What a download leaves on the disk, and what the next one makes of it."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.core import durable
from harness.core.clock import SystemClock
from harness.core.errors import LocalDiskFull, TransferFailed
from harness.core.ids import Sha256
from harness.core.ports import RemoteFile
from harness.remote.transfer import download
from harness.remote.transfer.attempt import RemoteDigests
from harness.remote.transfer.journal import Journal, disk_errors_translated
from harness.remote.transfer.streams import RangeStream

SIZE = 5 << 20
REMOTE = RemoteFile("model", SIZE, Sha256("a" * 64))


def opened(tmp_path: Path, remote: RemoteFile = REMOTE) -> Journal:
    journal = Journal(remote, tmp_path / "model")
    journal.open()
    return journal


def test_committed_chunks_are_known_to_the_next_one(tmp_path: Path) -> None:
    first = opened(tmp_path)
    assert first.part.stat().st_size == SIZE
    first.commit([0, 3])
    assert opened(tmp_path).done == {0, 3}


def test_a_chunk_is_noted_once_the_disk_has_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that loses what was not flushed never has a line whose bytes it lost."""
    journal = opened(tmp_path)
    on_the_disk: dict[int, bytes] = {}
    flush, append = durable.flush, durable.append

    def flushing(descriptor: int) -> None:
        if os.fstat(descriptor).st_ino == journal.part.stat().st_ino:
            on_the_disk[0] = journal.part.read_bytes()
        flush(descriptor)

    def appending(path: Path, data: bytes) -> None:
        assert path == journal.file
        assert on_the_disk.get(0) == journal.part.read_bytes(), "the line would outlive the bytes"
        append(path, data)

    monkeypatch.setattr(durable, "flush", flushing)
    monkeypatch.setattr(durable, "append", appending)
    with journal.part.open("r+b") as file:
        file.write(b"the bytes of chunk 0")
    journal.commit([0])
    assert journal.done == {0}


def test_another_file_of_the_same_name_begins_anew(tmp_path: Path) -> None:
    opened(tmp_path).commit([0])
    assert opened(tmp_path, RemoteFile("model", SIZE, Sha256("b" * 64))).done == set()
    assert opened(tmp_path).done == set()


def test_a_journal_without_its_file_is_nothing(tmp_path: Path) -> None:
    opened(tmp_path).commit([0])
    (tmp_path / "model.part").unlink()
    assert opened(tmp_path).done == set()
    opened(tmp_path).commit([1])
    os.truncate(tmp_path / "model.part", SIZE - 1)
    assert opened(tmp_path).done == set()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(keep=st.integers(min_value=0, max_value=60))
def test_a_torn_journal_only_forgets(tmp_path: Path, keep: int) -> None:
    journal = opened(tmp_path)
    journal.discard()
    journal = opened(tmp_path)
    journal.commit([0])
    journal.commit([4])
    head = journal.file.read_bytes().index(b"\n") + 1
    journal.file.write_bytes(journal.file.read_bytes()[: head + keep])
    assert opened(tmp_path).done <= {0, 4}


@pytest.mark.parametrize("content", [b"", b"{", b"[]\n0\n", b"\xff\xff\n", b"null\n0\n", b"{}\n0\n-1\n99\nx\n"])
def test_a_damaged_journal_begins_anew(tmp_path: Path, content: bytes) -> None:
    journal = opened(tmp_path)
    journal.file.write_bytes(content)
    assert opened(tmp_path).done == set()


def test_chunks_beyond_the_file_are_not_believed(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    durable.append(journal.file, b"99\n-1\n2\n")
    assert opened(tmp_path).done == {2}


def test_forgotten_chunks_stay_forgotten(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.commit([0, 1, 2])
    journal.forget([1])
    assert opened(tmp_path).done == {0, 2}


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalDiskFull, match="full"), disk_errors_translated(tmp_path / "x"):
        raise OSError(28, "No space left on device")
    with (
        pytest.raises(TransferFailed, match="cannot be used: Input/output"),
        disk_errors_translated(tmp_path / "x"),
    ):
        raise OSError(5, "Input/output error")


def test_a_file_whose_client_died_before_its_name_can_be_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Path) -> None:
        raise KeyboardInterrupt

    journal = opened(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(durable, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            journal.publish()
    assert journal.part.stat().st_mode & 0o200
    journal.publish()
    assert journal.destination.stat().st_mode & 0o222 == 0
    assert [path.name for path in tmp_path.iterdir()] == [journal.destination.name]


def test_a_file_of_another_length_gets_no_name(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    with journal.part.open("ab") as file:
        file.write(b"and more")
    with pytest.raises(TransferFailed, match="recorded are"):
        journal.publish()
    assert not journal.destination.exists()


@pytest.mark.parametrize(("more", "room"), [(0, True), (1, True), (-1, False)])
def test_a_download_begins_with_room_for_the_file_and_to_spare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: int, room: bool
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=SIZE + (64 << 20) + more))
    if room:
        opened(tmp_path)
        return
    with pytest.raises(LocalDiskFull, match=f"has {SIZE + (64 << 20) - 1} bytes free"):
        opened(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "told"),
    [(errno.EOPNOTSUPP, False), (errno.ENOSYS, False), (errno.EINVAL, False), (errno.ENOSPC, True), (errno.EIO, True)],
)
def test_a_file_system_that_cannot_reserve_is_no_full_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: bool
) -> None:
    asked: list[tuple[int, int]] = []

    def refuses(_: int, offset: int, length: int) -> None:
        asked.append((offset, length))
        raise OSError(number, "")

    monkeypatch.setattr(os, "posix_fallocate", refuses, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    journal = opened(tmp_path)
    with journal.part.open("r+b", buffering=0) as file:
        if told:
            with pytest.raises(OSError, match=f"Errno {number}"):
                journal.reserve(file)
        else:
            journal.reserve(file)
        assert asked == [(0, SIZE)]
        Journal(RemoteFile("model", 0, Sha256("a" * 64)), tmp_path / "empty").reserve(file)
    assert asked == [(0, SIZE)], "of an empty file there is nothing to reserve"


class Unreachable:
    """A source that must not be asked."""

    def connections(self, size: int) -> int:
        raise AssertionError(size)

    def open(self, *_: object) -> RangeStream:
        raise AssertionError

    def digests(self, remote: RemoteFile, chunk: int) -> RemoteDigests:
        raise AssertionError(remote, chunk)


def test_a_destination_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TransferFailed, match=r"cannot be used: (Not a directory|File exists)"):
        download.fetch(REMOTE, tmp_path / "file" / "model", Unreachable(), SystemClock())
