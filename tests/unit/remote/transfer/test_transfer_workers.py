"""How the missing chunks are handed out to workers, and when a chunk counts as fetched."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import HostUnreachable, LocalDiskFull, TransferFailed
from harness.core.ids import Sha256
from harness.core.ports import RemoteFile
from harness.remote.transfer.journal import Journal
from harness.remote.transfer.streams import Range, RangeStream
from harness.remote.transfer.workers import SMALLEST_PIECE, DownloadWorker, Piece, PieceQueue

MIB = 1 << 20


def work_of(lengths: list[int], workers: int) -> PieceQueue:
    """The chunks of a file, ready to be taken."""
    starts = [sum(lengths[:index]) for index in range(len(lengths))]
    queue = PieceQueue(
        Piece(index, start, length) for index, (start, length) in enumerate(zip(starts, lengths, strict=True))
    )
    queue.workers = workers
    queue.open()
    return queue


def taken(queue: PieceQueue) -> list[Piece]:
    """Everything that is handed out, each piece finished at once."""
    pieces: list[Piece] = []
    while not queue.complete:
        piece = queue.take(ahead=False)
        assert piece is not None
        pieces.append(piece)
        queue.finish(piece, "same")
    return pieces


@given(
    st.lists(st.integers(min_value=1, max_value=40 * MIB), min_size=1, max_size=40),
    st.integers(min_value=1, max_value=8),
)
def test_pieces_are_the_missing_bytes_each_once_and_in_order(lengths: list[int], workers: int) -> None:
    at = 0
    for piece in taken(work_of(lengths, workers)):
        assert piece.offset == at
        assert piece.length > 0
        at += piece.length
    assert at == sum(lengths)


def test_a_single_worker_gets_whole_chunks() -> None:
    assert [piece.length for piece in taken(work_of([32 * MIB] * 20, 1))] == [32 * MIB] * 20


def test_the_last_pieces_are_small_so_that_all_workers_end_together() -> None:
    sizes = [piece.length for piece in taken(work_of([32 * MIB] * 64, 8))]
    assert sizes[0] == 32 * MIB
    assert max(sizes[-8:]) == SMALLEST_PIECE


def test_a_chunk_is_fetched_once_its_last_piece_is() -> None:
    queue = work_of([16 * MIB], 2)
    first, second, third, fourth = (queue.take(ahead=False) for _ in range(4))
    for piece in (fourth, first, third):
        assert piece is not None
        queue.finish(piece, "same")
        assert not queue.complete
    assert second is not None
    queue.finish(second, "same")
    assert queue.wait_fetched() == [0]
    assert queue.wait_fetched() is None


def test_a_piece_that_was_cut_is_split_behind_what_came() -> None:
    piece = Piece(3, 100, 50, received=10)
    other = piece.split(15)
    assert (piece.offset, piece.length, piece.received) == (100, 25, 10)
    assert (other.index, other.offset, other.length, other.received) == (3, 125, 25, 0)


def test_nothing_is_handed_out_before_there_is_room() -> None:
    queue = PieceQueue([Piece(0, 0, MIB)])
    queue.stop()
    assert queue.take(ahead=False) is None


def test_the_only_worker_asks_ahead_to_the_end_and_several_leave_the_last_to_each_other() -> None:
    alone = work_of([MIB] * 2, 1)
    assert alone.take(ahead=False) is not None
    assert alone.take(ahead=True) is not None
    assert alone.take(ahead=True) is None
    several = work_of([MIB] * 3, 2)
    assert several.take(ahead=False) is not None
    assert several.take(ahead=True) is None


class FastStream(RangeStream):
    """A stream that brings every range at once."""

    def __init__(self) -> None:
        self.closed = False

    def ask(self, wanted: Range) -> None:
        assert not self.closed, wanted

    def receive(self, wanted: Range, arrived: Callable[[int], None]) -> str:
        arrived(wanted.length)
        return "same"

    def interrupt(self) -> None:
        """Nothing waits for it."""

    def close(self) -> None:
        self.closed = True


def fetched_by(directory: Path, streams: list[FastStream], missing: list[int]) -> tuple[DownloadWorker, PieceQueue]:
    """A worker that has these streams, one after the other, for the missing chunks of a file of eight."""
    remote = RemoteFile("model", 8 * MIB, Sha256("a" * 64))
    journal = Journal(remote, directory / "model")
    journal.open()
    queue = PieceQueue([Piece(index, *journal.span(index)) for index in missing])
    queue.open()
    worker = DownloadWorker(queue, journal)
    left = iter(streams)
    worker.start(lambda _give_up: next(left))
    while not worker.ended and not queue.complete:
        queue.wait_end(0.05)
    worker.join()
    return worker, queue


class FailingStream(FastStream):
    """A stream that breaks in the middle, and whose end takes its time and fails too."""

    def receive(self, wanted: Range, arrived: Callable[[int], None]) -> str:
        arrived(wanted.length // 2)
        raise HostUnreachable("cut")

    def close(self) -> None:
        raise OSError(errno.EDQUOT, "the quota is used up")


def test_pieces_of_a_stream_that_cannot_even_be_closed_are_for_others(tmp_path: Path) -> None:
    worker, queue = fetched_by(tmp_path, [FailingStream()], [0, 1])
    assert isinstance(worker.failure, LocalDiskFull)
    pieces = [queue.take(ahead=True), queue.take(ahead=True)]
    assert [piece.missing() for piece in pieces if piece] == [Range(MIB // 2, MIB // 2), Range(MIB, MIB)]


class SlowStream(FastStream):
    """A stream that takes its time to end."""

    interrupts = 0

    def interrupt(self) -> None:
        self.interrupts += 1

    def close(self) -> None:
        time.sleep(0.2)
        super().close()


def test_nothing_of_a_joined_worker_is_open(tmp_path: Path) -> None:
    stream = SlowStream()
    fetched_by(tmp_path, [stream], [0])
    assert stream.closed
    assert stream.interrupts < 50, "the join waits between two of them"


class EmptyStream(FastStream):
    """A stream that brings nothing."""

    def receive(self, wanted: Range, arrived: Callable[[int], None]) -> str:
        raise HostUnreachable(f"cut before {wanted} and {arrived}")


def test_after_streams_that_brought_nothing_the_next_is_opened_later_and_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(PieceQueue, "wait_end", lambda _, seconds: pauses.append(round(seconds, 1)))
    streams = [*(EmptyStream() for _ in range(9)), FastStream()]
    worker, _ = fetched_by(tmp_path, streams, [0])
    assert worker.failure is None
    waits = [pause for pause in pauses if pause != 0.05]
    assert waits == [0.1, 0.3, 0.7, 1.5, 3.1, 6.3, 12.7, 15.0, 15.0, 0.0]


@pytest.mark.parametrize("error", [RuntimeError("oddity"), HostUnreachable("no route")])
def test_whatever_ends_a_worker_is_its_failure(tmp_path: Path, error: Exception) -> None:
    journal = Journal(RemoteFile("model", 8 * MIB, Sha256("a" * 64)), tmp_path / "model")
    journal.open()
    queue = PieceQueue([Piece(0, 0, MIB)])
    queue.open()

    def breaks(_: Callable[[], bool]) -> RangeStream:
        raise error

    worker = DownloadWorker(queue, journal)
    worker.start(breaks)
    worker._thread.join()
    assert str(error) in str(worker.failure)
    assert isinstance(worker.failure, HostUnreachable if isinstance(error, HostUnreachable) else TransferFailed)


def test_who_was_told_to_end_has_not_failed(tmp_path: Path) -> None:
    journal = Journal(RemoteFile("model", 8 * MIB, Sha256("a" * 64)), tmp_path / "model")
    journal.open()
    queue = PieceQueue([Piece(0, 0, MIB)])
    queue.open()
    worker = DownloadWorker(queue, journal)

    def breaks(_: Callable[[], bool]) -> RangeStream:
        worker.retire()
        raise HostUnreachable("no route")

    worker.start(breaks)
    worker._thread.join()
    assert worker.failure is None


@pytest.mark.parametrize(
    ("asked", "before", "received", "flows"),
    [(1, 5, 6, True), (1, 5, 5, False), (0, 5, 6, False), (0, 5, 5, False)],
    ids=["brings", "brings nothing yet", "has brought all", "nothing asked"],
)
def test_a_worker_flows_while_its_stream_has_brought_some_and_is_to_bring_more(
    tmp_path: Path, asked: int, before: int, received: int, flows: bool
) -> None:
    journal = Journal(RemoteFile("model", 8 * MIB, Sha256("a" * 64)), tmp_path / "model")
    worker = DownloadWorker(PieceQueue([]), journal)
    worker._asked.extend([Piece(0, 0, MIB)] * asked)
    worker._received_before, worker.received = before, received
    assert worker.waiting is bool(asked)
    assert worker.flowing is flows
    assert worker.ended
