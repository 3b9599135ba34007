"""How many connections an attempt has: what the box can serve, no more than allowed, more only when that pays."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import HostUnreachable
from harness.core.ids import Sha256
from harness.core.ports import Progress, RemoteFile
from harness.remote.transfer import attempt
from harness.remote.transfer.attempt import Cancelled, DownloadAttempt, RemoteDigests, TransferLimits
from harness.remote.transfer.journal import Journal
from harness.remote.transfer.streams import Range, RangeStream
from tests.support.fake_clock import FakeClock

A_SECOND = 2 << 20
"""Bytes that each stream brings in a second."""


class Network:
    """A box whose every connection has the same rate; time passes with each look of the attempt."""

    def __init__(self, connections: int, seconds: int) -> None:
        self.clock = FakeClock(0.0)
        self.asked = connections
        self.left = seconds
        self.streams: list[Steady] = []
        self.at_once = 0

    def connections(self, size: int) -> int:
        assert size
        return self.asked

    def open(self, remote: RemoteFile, part: Path, give_up: Callable[[], bool]) -> RangeStream:
        del remote, part, give_up
        self.streams.append(Steady())
        self.at_once = max(self.at_once, sum(not one.cut.is_set() for one in self.streams))
        return self.streams[-1]

    def digests(self, remote: RemoteFile, chunk: int) -> RemoteDigests:
        raise AssertionError(remote, chunk)

    def passes(self) -> bool:
        """A second goes by, in which every open stream brings its bytes; True when the test is over.

        No time passes while a stream is being opened: how fast this machine is says nothing here.
        """
        if not self.streams or not all(one.receiving or one.cut.is_set() for one in self.streams):
            return False
        self.clock.turn(1.0)
        self.left -= 1
        for stream in self.streams:
            stream.bring(A_SECOND)
        return self.left < 0


class Steady(RangeStream):
    """A stream that brings what the network says."""

    def __init__(self) -> None:
        self.cut = threading.Event()
        self.receiving = False
        self.arrived: Callable[[int], None] = lambda _: None

    def ask(self, wanted: Range) -> None:
        """It has everything."""

    def receive(self, wanted: Range, arrived: Callable[[int], None]) -> str:
        assert wanted.length
        self.arrived, self.receiving = arrived, True
        self.cut.wait()
        raise HostUnreachable("cut")

    def bring(self, count: int) -> None:
        if not self.cut.is_set():
            self.arrived(count)

    def interrupt(self) -> None:
        self.cut.set()

    def close(self) -> None:
        self.cut.set()


def most_at_once(
    directory: Path, monkeypatch: pytest.MonkeyPatch, *, asked: int, allowed: int, size: int, seconds: int = 15
) -> int:
    """Connections that were open at once at most, while the attempt was watched for some seconds."""
    monkeypatch.setattr(attempt, "TICK_S", 0.02)
    monkeypatch.setattr(Journal, "reserve", lambda *_: None)  # the bytes of this test are only counted
    journal = Journal(RemoteFile("model", size, Sha256("a" * 64)), directory / "model")
    journal.part.touch()
    network = Network(asked, seconds)
    transfer = DownloadAttempt(journal, network, network.clock, TransferLimits(connections=allowed))

    def progress(_: Progress) -> None:
        """Nobody looks."""

    with pytest.raises(Cancelled):
        transfer.run(progress, network.passes)
    return network.at_once


LONG = 8 << 30


def test_more_are_tried_when_there_is_much_to_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert most_at_once(tmp_path, monkeypatch, asked=1, allowed=4, size=LONG) == 4


def test_no_more_are_tried_for_what_is_almost_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four seconds' worth: others would be at work when it is over."""
    assert most_at_once(tmp_path, monkeypatch, asked=1, allowed=4, size=4 * A_SECOND, seconds=3) == 1


@pytest.mark.parametrize(("asked", "allowed", "had"), [(20, 2, 2), (2, 2, 2), (1, 1, 1)])
def test_no_more_than_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: int, allowed: int, had: int
) -> None:
    assert most_at_once(tmp_path, monkeypatch, asked=asked, allowed=allowed, size=LONG) == had


def test_the_box_says_with_how_many_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert most_at_once(tmp_path, monkeypatch, asked=3, allowed=8, size=LONG, seconds=1) == 3


def test_between_two_looks_it_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watcher that does not would take a whole core of a machine that is to write a file."""
    looks: list[str] = []
    waits = threading.Condition.wait

    def wait(self: threading.Condition, timeout: float | None = None) -> bool:
        if threading.current_thread() is threading.main_thread() and timeout == 0.02:
            looks.append("waits")
        return waits(self, timeout)

    passes = Network.passes

    def look(self: Network) -> bool:
        looks.append("looks")
        return passes(self)

    monkeypatch.setattr(threading.Condition, "wait", wait)
    monkeypatch.setattr(Network, "passes", look)
    most_at_once(tmp_path, monkeypatch, asked=1, allowed=1, size=LONG, seconds=3)
    assert looks[:6] == ["looks", "waits"] * 3
