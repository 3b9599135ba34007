"""Files that survive: in what order the disk is asked, and what a crash in between leaves."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from harness.core import durable
from tests.support.windows import behave_like_windows


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    made: list[str] = []
    replace, flush, flush_directory = os.replace, durable.flush, durable.flush_directory

    def noted_replace(source: Path, target: Path) -> None:
        made.append("rename")
        replace(source, target)

    def noted_flush(descriptor: int) -> None:
        made.append("flush")
        flush(descriptor)

    def noted_directory(directory: Path) -> None:
        made.append("flush directory")
        flush_directory(directory)

    monkeypatch.setattr(os, "replace", noted_replace)
    monkeypatch.setattr(durable, "flush", noted_flush)
    monkeypatch.setattr(durable, "flush_directory", noted_directory)
    return made


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, calls: list[str]) -> None:
    durable.write(tmp_path / "x", b"data")
    assert calls == ["flush", "rename", "flush directory"]
    assert (tmp_path / "x").read_bytes() == b"data"


def test_an_appended_line_is_on_the_disk(tmp_path: Path, calls: list[str]) -> None:
    durable.append(tmp_path / "log", b"one\n")
    assert calls == ["flush", "flush directory"]
    durable.append(tmp_path / "log", b"two\n")
    assert calls == ["flush", "flush directory", "flush"]
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    durable.write(tmp_path / "x", b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "flush", fail)
    with pytest.raises(OSError, match="No space"):
        durable.write(tmp_path / "x", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"old"


def test_of_two_creators_one_wins_and_nothing_is_left(tmp_path: Path) -> None:
    won: list[bytes] = []

    def create(data: bytes) -> None:
        if durable.create(tmp_path / "x", data):
            won.append(data)

    threads = [threading.Thread(target=create, args=(bytes([n]) * 100,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert (tmp_path / "x").read_bytes() == won[0]
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_creation_works_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    assert durable.create(tmp_path / "x", b"data")
    assert not durable.create(tmp_path / "x", b"other")
    assert (tmp_path / "x").read_bytes() == b"data"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
def test_a_private_file_is_never_readable_by_others(tmp_path: Path) -> None:
    durable.write(tmp_path / "key", b"secret", mode=0o600)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_read_only_files_are_replaced_and_removed_where_windows_refuses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "training.log"
    file.write_bytes(b"older")
    file.chmod(0o444)
    behave_like_windows(monkeypatch)
    with pytest.raises(PermissionError):
        file.unlink()
    durable.write(file, b"newer")
    assert file.read_bytes() == b"newer"
    file.chmod(0o444)
    durable.remove(file)
    durable.remove(file)
    assert list(tmp_path.iterdir()) == []
