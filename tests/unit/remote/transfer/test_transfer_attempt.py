"""How many connections an attempt has: what the box can serve, no more than allowed, more only when that pays."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.core.errors import HarnessError, HostUnreachable, RemoteChanged, TransferFailed
from harness.core.ids import Sha256
from harness.core.ports import Progress, RemoteFile
from harness.remote.transfer import attempt
from harness.remote.transfer.attempt import Cancelled, DownloadAttempt, RemoteDigests, TransferLimits
from harness.remote.transfer.flow import StallDetector
from harness.remote.transfer.journal import Journal
from harness.remote.transfer.streams import Range, RangeStream
from harness.remote.transfer.workers import PieceQueue
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
        self.rates: list[int] = []
        """Bytes a second of each stream, where they are others."""

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
        for number, stream in enumerate(self.streams):
            stream.bring(self.rates[number] if number < len(self.rates) else A_SECOND)
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


def _silent(directory: Path, monkeypatch: pytest.MonkeyPatch, rates: list[int], limits: TransferLimits) -> None:
    """A transfer over streams that bring so much each; no pause between two of them is waited for."""
    monkeypatch.setattr(attempt, "TICK_S", 0.01)
    monkeypatch.setattr(Journal, "reserve", lambda *_: None)
    journal = Journal(RemoteFile("model", LONG, Sha256("a" * 64)), directory / "model")
    journal.part.touch()
    network = Network(1, 20)
    network.rates = rates
    monkeypatch.setattr(PieceQueue, "wait_end", lambda *_: None)
    DownloadAttempt(journal, network, network.clock, limits).run(lambda _: None, network.passes)


def test_a_transfer_of_which_nothing_arrives_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = TransferLimits(connections=1, stall=100.0, patience=5.0)
    with pytest.raises(HostUnreachable, match="nothing of model arrived for 5 s"):
        _silent(tmp_path, monkeypatch, [0], limits)


def test_while_room_is_made_nobody_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system cannot reserve, every block is written first."""
    room, looks = threading.Event(), list[None]()
    journal = Journal(RemoteFile("model", LONG, Sha256("a" * 64)), tmp_path / "model")
    journal.part.touch()
    network = Network(1, 3)
    monkeypatch.setattr(attempt, "TICK_S", 0.01)
    monkeypatch.setattr(Journal, "reserve", lambda *_: room.wait(60))

    def passes() -> bool:
        if room.is_set():
            return network.passes()
        looks.append(None)
        network.clock.turn(1.0)
        if len(looks) == 20:
            room.set()
        return False

    limits = TransferLimits(connections=1, stall=100.0, patience=5.0)
    with pytest.raises(Cancelled):
        DownloadAttempt(journal, network, network.clock, limits).run(lambda _: None, passes)


def test_streams_that_stall_are_cut_each_in_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Network] = []
    real = Network.__init__

    def remembered(self: Network, connections: int, seconds: int) -> None:
        real(self, connections, seconds)
        opened.append(self)

    monkeypatch.setattr(Network, "__init__", remembered)
    with pytest.raises(Cancelled):
        _silent(tmp_path, monkeypatch, [0, 0, 0], TransferLimits(connections=1, stall=3.0, patience=1e9))
    (network,) = opened
    assert len(network.streams) == 4, "each has its own time, and the fourth brings something"
    assert all(stream.cut.is_set() for stream in network.streams[:3])


@dataclass(eq=False)
class _Worker:
    """A worker as its attempt sees it."""

    waiting: bool = True
    received: int = 0
    failure: HarnessError | None = None
    ended: bool = False
    retired: bool = False

    def retire(self) -> None:
        self.retired = True


def _attempt(directory: Path, *workers: _Worker) -> DownloadAttempt:
    journal = Journal(RemoteFile("model", LONG, Sha256("a" * 64)), directory / "model")
    made = DownloadAttempt(journal, Network(1, 1), FakeClock(0.0), TransferLimits(stall=10.0))
    made._workers = {worker: StallDetector(10.0) for worker in workers}  # type: ignore[misc]
    return made


@pytest.mark.parametrize(
    ("failure", "other", "goes_on"),
    [
        (HostUnreachable("lost"), _Worker(), True),
        (HostUnreachable("lost"), _Worker(ended=True), False),
        (HostUnreachable("lost"), _Worker(retired=True), False),
        (TransferFailed("odd"), _Worker(), False),
        (RemoteChanged("another"), _Worker(), False),
    ],
    ids=["another has it", "another has ended", "another is to end", "odd", "changed"],
)
def test_a_worker_that_lost_the_box_is_forgiven_while_another_has_it(
    tmp_path: Path, failure: HarnessError, other: _Worker, goes_on: bool
) -> None:
    made = _attempt(tmp_path, _Worker(failure=failure, ended=True), other)
    with contextlib.nullcontext() if goes_on else pytest.raises(type(failure)):
        made._check_workers(0.0)


def test_who_has_nothing_to_do_is_not_stalled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, cuts = _Worker(), list[float]()
    made = _attempt(tmp_path, worker)
    for now, waiting in [
        (0.0, True),
        (9.0, True),
        (9.5, False),
        (60.0, True),
        (69.0, True),
        (71.0, True),
        (72.0, True),
    ]:
        worker.waiting = waiting
        monkeypatch.setattr(_Worker, "cut_stream", lambda _, at=now: cuts.append(at), raising=False)
        made._check_workers(now)
    assert cuts == [71.0]


@pytest.mark.parametrize(
    ("wanted", "retired"),
    [(3, [False, False, False]), (2, [False, False, True]), (1, [False, True, True]), (0, [True, True, True])],
)
def test_connections_that_are_too_many_end_the_newest_first(tmp_path: Path, wanted: int, retired: list[bool]) -> None:
    workers = [_Worker(ended=True), *(_Worker() for _ in range(3))]
    made = _attempt(tmp_path, *workers)
    made._staff(wanted)
    assert [worker.retired for worker in workers] == [False, *retired]
    assert made._queue.workers == wanted


def test_connections_that_are_missing_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[_Worker] = []

    class Beginning(_Worker):
        """A worker that is begun by its attempt."""

        def start(self, open_stream: object) -> None:
            assert open_stream is not None
            begun.append(self)

    monkeypatch.setattr(attempt, "DownloadWorker", lambda *_: Beginning())
    made = _attempt(tmp_path, _Worker(), _Worker(retired=True), _Worker(ended=True))
    made._staff(3)
    assert len(begun) == 2
    assert list[object](made._active()[1:]) == begun
    made._staff(3)
    assert len(begun) == 2
