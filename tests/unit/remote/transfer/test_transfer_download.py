"""One process at a time fetches a file, whatever becomes of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.clock import SystemClock
from harness.core.errors import HostUnreachable, TransferFailed
from harness.core.ids import Sha256
from harness.core.ports import RemoteFile
from harness.remote.transfer import download
from harness.remote.transfer.attempt import RemoteDigests
from harness.remote.transfer.journal import Journal
from harness.remote.transfer.streams import RangeStream

REMOTE = RemoteFile("model", 5 << 20, Sha256("a" * 64))

FETCHER = """
import sys
from pathlib import Path
from harness.core.clock import SystemClock
from harness.core.ports import RemoteFile
from harness.remote.transfer import download

class Held:
    def connections(self, size):
        print(size, flush=True)
        sys.stdin.read()

path, size, digest, destination = sys.argv[1:]
download.fetch(RemoteFile(path, int(size), digest), Path(destination), Held(), SystemClock())
"""
"""A process that fetches a file, says so when it is about to connect, and waits for ever."""


class Gone:
    """A box that does not answer."""

    def connections(self, size: int) -> int:
        raise HostUnreachable(f"nothing of {size} bytes")

    def open(self, remote: RemoteFile, part: Path, give_up: Callable[[], bool]) -> RangeStream:
        raise AssertionError(remote, part, give_up)

    def digests(self, remote: RemoteFile, chunk: int) -> RemoteDigests:
        raise AssertionError(remote, chunk)


def fetch(destination: Path) -> None:
    """One more fetch of the same file, which comes as far as the box when the lock is free."""
    download.fetch(REMOTE, destination, Gone(), SystemClock())


def test_two_processes_do_not_fetch_one_file_and_a_killed_one_holds_up_nobody(tmp_path: Path) -> None:
    destination = tmp_path / "model"
    arguments = [REMOTE.path, str(REMOTE.size), REMOTE.sha256, str(destination)]
    first = subprocess.Popen([sys.executable, "-c", FETCHER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert first.stdout is not None
        assert int(first.stdout.readline()) == REMOTE.size
        journal = Journal(REMOTE, destination)
        journal.commit([0])
        with pytest.raises(TransferFailed, match="another process"):
            download.fetch(RemoteFile("model", 1, Sha256("c" * 64)), destination, Gone(), SystemClock())
    finally:
        first.kill()
        first.communicate()
    again = Journal(REMOTE, destination)
    again.open()
    assert again.done == {0}, "the refused fetch touched what the first one had"
    with pytest.raises(HostUnreachable):
        fetch(destination)
    assert not (tmp_path / "model.part.lock").exists()


def test_a_fetch_that_failed_leaves_the_lock_to_the_next(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(HostUnreachable):
            fetch(tmp_path / "model")
    assert {path.name for path in tmp_path.iterdir()} == {"model.part", "model.part.journal"}


def test_a_file_of_less_than_no_bytes_is_asked_for_nowhere(tmp_path: Path) -> None:
    with pytest.raises(TransferFailed, match="its size is negative"):
        download.fetch(RemoteFile("model", -1, REMOTE.sha256), tmp_path / "model", Gone(), SystemClock())
    assert not list(tmp_path.iterdir())
