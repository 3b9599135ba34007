"""Pieces of a download, the threads that fetch them, and the thread that verifies what is on the disk.

A chunk is the unit of the journal; a piece is what a worker asks for: a chunk, or a part of one when little is
left, so that all connections end together.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from harness.core.errors import HarnessError, HostUnreachable, RemoteChanged, TransferFailed
from harness.remote.transfer.journal import Journal, disk_errors_translated
from harness.remote.transfer.streams import Range, RangeStream

BLOCK = 1 << 20
SMALLEST_PIECE = 4 << 20
AHEAD = 2
"""Ranges asked for on one stream at a time: the box sends the next one while the answer to the last is under way."""


@dataclass(slots=True)
class Piece:
    """Span of the chunk ``index`` that is being fetched; ``received`` bytes of it are written already."""

    index: int
    offset: int
    length: int
    received: int = 0

    def missing(self) -> Range:
        """Range that did not arrive yet."""
        return Range(self.offset + self.received, self.length - self.received)

    def split(self, length: int) -> Piece:
        """Keep the first ``length`` missing bytes; return the piece of the others."""
        end, self.length = self.offset + self.length, self.received + length
        return Piece(self.index, self.offset + self.length, end - self.offset - self.length)


class PieceQueue:
    """Pieces left to fetch, shared by the workers; chunks that were fetched, for the verifier."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._todo = deque(pieces)
        self._left = Counter(piece.index for piece in self._todo)
        """The unfinished pieces of each chunk."""
        self._fetched: list[int] = []
        self._identity: str | None = None
        self.ready = False
        """True once pieces are handed out."""
        self.stopped = False
        self.changed = threading.Condition()
        self.workers = 1

    def open(self) -> None:
        """Let the workers have pieces: the disk has room for all of them."""
        with self.changed:
            self.ready = True
            self.changed.notify_all()

    def take(self, *, ahead: bool) -> Piece | None:
        """Take the next piece. Waits for one that another worker may give back, unless it would be taken ``ahead``."""
        with self.changed:
            for_others = self.workers if self.workers > 1 else 0
            if ahead and len(self._todo) <= for_others:
                return None
            while not self.stopped and (not self.ready or (not self._todo and self._left)):
                self.changed.wait()
            return None if self.stopped or not self._todo else self._share()

    def _share(self) -> Piece:
        """A worker's next piece: at most its share of half of what is left, so that nobody waits long for the last."""
        piece = self._todo.popleft()
        left = piece.missing().length + sum(other.missing().length for other in self._todo)
        share = max(left // (2 * self.workers), SMALLEST_PIECE)
        if self.workers > 1 and piece.missing().length > share:
            self._todo.appendleft(piece.split(share))
            self._left[piece.index] += 1
        return piece

    def give_back(self, pieces: Iterable[Piece]) -> None:
        """Return the pieces of a stream that was cut, for others to fetch; the bytes that were received stay."""
        with self.changed:
            self._todo.extendleft(reversed(list(pieces)))
            self.changed.notify_all()

    def finish(self, piece: Piece, identity: str) -> None:
        """Note a piece as written. Raises RemoteChanged when the file is not the one of the pieces before."""
        with self.changed:
            self._identity = self._identity or identity
            if identity != self._identity:
                raise RemoteChanged("the file on the box was changed while it was fetched")
            self._left[piece.index] -= 1
            if not self._left[piece.index]:
                del self._left[piece.index]
                self._fetched.append(piece.index)
            self.changed.notify_all()

    def wait_fetched(self) -> list[int] | None:
        """Wait for fetched chunks; None when there will be no more."""
        with self.changed:
            while not self._fetched and self._left and not self.stopped:
                self.changed.wait()
            found, self._fetched = self._fetched, []
            return found or None

    def wait_end(self, seconds: float) -> None:
        """Wait until everything is fetched or stopped, ``seconds`` at most."""
        with self.changed:
            self.changed.wait_for(lambda: self.stopped or not self._left, seconds)

    def stop(self) -> None:
        """Release everyone who waits; no piece is handed out any more."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()

    @property
    def complete(self) -> bool:
        """True once every piece is written."""
        return not self._left


OpenStream = Callable[[Callable[[], bool]], RangeStream]
"""Connects, with retries, until the given function says to give up. Raises HostUnreachable, HostKeyChanged."""


class DownloadWorker:
    """Thread that uses one stream after another, each until it is cut; ``failure`` is why it gave up."""

    def __init__(self, queue: PieceQueue, journal: Journal) -> None:
        self._queue = queue
        self._journal = journal
        self.retired = False
        """True once it was told to end."""
        self._stream: RangeStream | None = None
        self._asked: deque[Piece] = deque()
        self._received_before = 0
        """Bytes received before the present stream."""
        self.received = 0
        self.failure: HarnessError | None = None
        self._thread = threading.Thread()

    def start(self, open_stream: OpenStream) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, args=(open_stream,), name="harness-download", daemon=True)
        self._thread.start()

    def retire(self) -> None:
        """End after the pieces that were asked for."""
        self.retired = True

    def cut_stream(self) -> None:
        """Cut the present stream, for it stalls."""
        stream = self._stream
        if stream is not None:
            stream.interrupt()

    @property
    def waiting(self) -> bool:
        """True while bytes were asked for that did not arrive yet."""
        return bool(self._asked)

    @property
    def flowing(self) -> bool:
        """True while the present stream has brought bytes and is to bring more."""
        return self.waiting and self.received > self._received_before

    @property
    def ended(self) -> bool:
        """True when it does not run."""
        return not self._thread.is_alive()

    def join(self) -> None:
        """Wait for the end of its stream, cutting it. One that still connects ends by itself and writes nothing."""
        self.retire()
        while self._thread.is_alive() and self._stream is not None:
            self.cut_stream()
            self._thread.join(0.05)

    def _gives_up(self) -> bool:
        return self.retired or self._queue.stopped or self._queue.complete

    def _run(self, open_stream: OpenStream) -> None:
        pause = 0.0
        try:
            while not self._gives_up():
                self._received_before = self.received
                self._use(open_stream(self._gives_up))
                # A stream that brought nothing is not opened again at once, for it may go on bringing nothing.
                pause = 0.0 if self.received > self._received_before else min(2 * pause + 0.1, 15.0)
                self._queue.wait_end(pause)
        except HarnessError as error:
            self.failure = None if self._gives_up() else error
        except Exception as error:  # noqa: BLE001 - a thread has nobody above it who would hear of it
            self.failure = _unexpected(error)
        finally:
            with self._queue.changed:
                self._queue.changed.notify_all()

    def _use(self, stream: RangeStream) -> None:
        """Use a stream until it ends or is cut; then what it did not bring is for others to fetch."""
        self._stream = stream
        try:
            with (
                contextlib.suppress(HostUnreachable),
                disk_errors_translated(self._journal.part),
                contextlib.closing(stream),
            ):
                self._receive_pieces(stream)
        finally:
            self._stream = None
            self._queue.give_back(self._asked)
            self._asked.clear()

    def _receive_pieces(self, stream: RangeStream) -> None:
        asked = self._asked

        def arrived(count: int) -> None:
            asked[0].received += count
            self.received += count

        while True:
            while len(asked) < AHEAD and not self.retired:
                piece = self._queue.take(ahead=bool(asked))
                if piece is None:
                    break
                asked.append(piece)
                stream.ask(piece.missing())
            if not asked:
                return
            identity = stream.receive(asked[0].missing(), arrived)
            self._queue.finish(asked[0], identity)
            asked.popleft()


class Verifier:
    """Thread that makes room; then, behind the workers, makes chunks durable, notes them and hashes the local file."""

    def __init__(self, queue: PieceQueue, journal: Journal) -> None:
        self._queue = queue
        self._journal = journal
        self._digest = hashlib.sha256()
        self._next = 0
        self._failure: HarnessError | None = None
        self._thread = threading.Thread(target=self._run, name="harness-verify", daemon=True)

    def start(self) -> None:
        """Start the thread, with the chunks that the journal knows."""
        self._thread.start()

    def join(self) -> None:
        """Wait for its end; nothing is written to the journal after it."""
        self._thread.join()

    def digest(self) -> str:
        """Digest of the whole local file, once it has ended. Raises LocalDiskFull, TransferFailed."""
        if self._failure is not None:
            raise self._failure
        return self._digest.hexdigest()

    def _run(self) -> None:
        try:
            with disk_errors_translated(self._journal.part), self._journal.part.open("r+b", buffering=0) as file:
                self._journal.reserve(file)
                self._queue.open()
                self._hash_on(file.readinto)
                while (indexes := self._queue.wait_fetched()) is not None:
                    self._journal.commit(indexes)
                    self._hash_on(file.readinto)
        except HarnessError as error:
            self._failure = error
            self._queue.stop()
        except Exception as error:  # noqa: BLE001 - as with the worker
            self._failure = _unexpected(error)
            self._queue.stop()

    def _hash_on(self, read_into: Callable[[memoryview], int | None]) -> None:
        block = memoryview(bytearray(BLOCK))
        while self._next in self._journal.done and not self._queue.stopped:
            left = self._journal.span(self._next)[1]
            while left:
                size = read_into(block[: min(left, BLOCK)])
                if not size:
                    raise OSError("the file became shorter")
                self._digest.update(block[:size])
                left -= size
            self._next += 1


def _unexpected(error: Exception) -> TransferFailed:
    """An error that a thread of a transfer does not know what to do about, as its failure."""
    failure = TransferFailed(f"a part of the transfer failed: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
