"""The pieces of a download, the threads that fetch them, and the thread that proves them.

A chunk is what the journal notes; a piece is what a worker asks for: a chunk, or a part of one when
little is left, so that all connections end together.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from harness.core.errors import HarnessError, HostUnreachable, RemoteChanged, TransferFailed
from harness.remote.transfer.journal import Journal, no_room_told
from harness.remote.transfer.streams import Range, Stream

BLOCK = 1 << 20
SMALLEST_PIECE = 4 << 20
AHEAD = 2
"""Ranges asked for on one stream at a time: the box sends the next one while the answer to the last is under way."""


class Unforeseen(TransferFailed):
    """An error that a thread of a transfer does not know what to do about."""

    @classmethod
    def of(cls, error: Exception) -> Unforeseen:
        """As the failure of the thread."""
        failure = cls(f"a part of the transfer failed: {type(error).__name__}: {error}")
        failure.__cause__ = error
        return failure


@dataclass(slots=True)
class Piece:
    """A span of the chunk ``index`` that is being fetched; ``received`` bytes of it are written already."""

    index: int
    offset: int
    length: int
    received: int = 0

    def rest(self) -> Range:
        """What is still missing."""
        return Range(self.offset + self.received, self.length - self.received)

    def split(self, length: int) -> Piece:
        """Keep the first ``length`` missing bytes; the piece of the others."""
        end, self.length = self.offset + self.length, self.received + length
        return Piece(self.index, self.offset + self.length, end - self.offset - self.length)


class Work:
    """What is left to fetch, shared by the workers; what was fetched, for the prover."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._todo = deque(pieces)
        self._left = Counter(piece.index for piece in self._todo)
        """The unfinished pieces of each chunk."""
        self._fetched: list[int] = []
        self._identity: str | None = None
        self._ready = False
        self._stopped = False
        self.changed = threading.Condition()
        self.workers = 1

    def begin(self) -> None:
        """There is room for every piece: let the workers have them."""
        with self.changed:
            self._ready = True
            self.changed.notify_all()

    def take(self, *, ahead: bool) -> Piece | None:
        """The next piece. Waits for one that another worker may give back, unless it would be taken ``ahead``."""
        with self.changed:
            for_others = self.workers if self.workers > 1 else 0
            if ahead and len(self._todo) <= for_others:
                return None
            while not self._stopped and (not self._ready or (not self._todo and self._left)):
                self.changed.wait()
            return None if self._stopped or not self._todo else self._share()

    def _share(self) -> Piece:
        """A worker's next piece: at most its share of half of what is left, so that nobody waits long for the last."""
        piece = self._todo.popleft()
        left = piece.rest().length + sum(other.rest().length for other in self._todo)
        share = max(left // (2 * self.workers), SMALLEST_PIECE)
        if self.workers > 1 and piece.rest().length > share:
            self._todo.appendleft(piece.split(share))
            self._left[piece.index] += 1
        return piece

    def give_back(self, pieces: Iterable[Piece]) -> None:
        """Pieces of a stream that was cut; the bytes that were received stay."""
        with self.changed:
            self._todo.extendleft(reversed(list(pieces)))
            self.changed.notify_all()

    def finish(self, piece: Piece, identity: str) -> None:
        """A piece is written. Raises RemoteChanged when the file is not the one of the pieces before."""
        with self.changed:
            self._identity = self._identity or identity
            if identity != self._identity:
                raise RemoteChanged("the file on the box was changed while it was fetched")
            self._left[piece.index] -= 1
            if not self._left[piece.index]:
                del self._left[piece.index]
                self._fetched.append(piece.index)
            self.changed.notify_all()

    def fetched(self) -> list[int] | None:
        """Waits for chunks to prove; none when there will be no more."""
        with self.changed:
            while not self._fetched and self._left and not self._stopped:
                self.changed.wait()
            found, self._fetched = self._fetched, []
            return found or None

    def rest(self, seconds: float) -> None:
        """Wait, unless it ends meanwhile."""
        with self.changed:
            self.changed.wait_for(lambda: self._stopped or not self._left, seconds)

    def stop(self) -> None:
        """Let everyone waiting go."""
        with self.changed:
            self._stopped = True
            self.changed.notify_all()

    @property
    def ready(self) -> bool:
        """Whether there is room, so that pieces can be had."""
        return self._ready

    @property
    def stopped(self) -> bool:
        """Whether it was stopped."""
        return self._stopped

    @property
    def complete(self) -> bool:
        """Whether every piece is written."""
        return not self._left


OpenStream = Callable[[Callable[[], bool]], Stream]
"""Connects, patiently, until the given function says to give up. Raises HostUnreachable, HostKeyChanged."""


class Worker:
    """One stream after another, each until it is cut; ``failure`` tells why the worker gave up."""

    def __init__(self, work: Work, journal: Journal) -> None:
        self._work = work
        self._journal = journal
        self._retired = False
        self._stream: Stream | None = None
        self._under_way: deque[Piece] = deque()
        self.received = 0
        self.cuts = 0
        self.failure: HarnessError | None = None
        self._thread = threading.Thread()

    def start(self, open_stream: OpenStream) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, args=(open_stream,), name="harness-download", daemon=True)
        self._thread.start()

    def retire(self) -> None:
        """End after the pieces that were asked for."""
        self._retired = True

    def kick(self) -> None:
        """Cut the present stream: it stalls."""
        stream = self._stream
        if stream is not None:
            stream.interrupt()

    @property
    def waiting(self) -> bool:
        """Whether bytes are asked for that did not come yet."""
        return bool(self._under_way)

    @property
    def retired(self) -> bool:
        """Whether it was told to end."""
        return self._retired

    @property
    def ended(self) -> bool:
        """Whether it fetches no more."""
        return not self._thread.is_alive()

    def join(self) -> None:
        """Wait for the end of its stream, cutting it. One that still connects ends by itself and writes nothing."""
        self.retire()
        while self._thread.is_alive() and self._stream is not None:
            self.kick()
            self._thread.join(0.05)

    def _gives_up(self) -> bool:
        return self._retired or self._work.stopped or self._work.complete

    def _run(self, open_stream: OpenStream) -> None:
        pause = 0.0
        try:
            while not self._gives_up():
                before = self.received
                self._carry(open_stream(self._gives_up))
                # A stream that brought nothing is not opened again at once, for it may go on bringing nothing.
                pause = 0.0 if self.received > before else min(2 * pause + 0.1, 15.0)
                self._work.rest(pause)
        except HarnessError as error:
            self.failure = None if self._gives_up() else error
        except Exception as error:  # noqa: BLE001 - a thread has nobody above it who would hear of it
            self.failure = Unforeseen.of(error)
        finally:
            with self._work.changed:
                self._work.changed.notify_all()

    def _carry(self, stream: Stream) -> None:
        """Use a stream until it ends or is cut; then what it did not bring is for others to fetch."""
        self._stream = stream
        try:
            with no_room_told(self._journal.part), contextlib.closing(stream):
                self._serve(stream)
        except HostUnreachable:
            self.cuts += 1
        finally:
            self._stream = None
            self._work.give_back(self._under_way)
            self._under_way.clear()

    def _serve(self, stream: Stream) -> None:
        under_way = self._under_way

        def arrived(count: int) -> None:
            under_way[0].received += count
            self.received += count

        while True:
            while len(under_way) < AHEAD and not self._retired:
                piece = self._work.take(ahead=bool(under_way))
                if piece is None:
                    break
                if not stream.fits(piece.rest()):
                    self._work.give_back([piece])
                    break
                under_way.append(piece)
                stream.ask(piece.rest())
            if not under_way:
                return
            identity = stream.receive(under_way[0].rest(), arrived)
            if len(under_way) == 1:
                stream.settle()
            self._work.finish(under_way[0], identity)
            under_way.popleft()


class Prover:
    """Makes room; then, behind the workers, makes chunks durable, notes them, and hashes the file from the disk."""

    def __init__(self, work: Work, journal: Journal) -> None:
        self._work = work
        self._journal = journal
        self._digest = hashlib.sha256()
        self._next = 0
        self.failure: HarnessError | None = None
        self._thread = threading.Thread(target=self._run, name="harness-proof", daemon=True)

    def start(self) -> None:
        """Begin, with the chunks that the journal knows."""
        self._thread.start()

    def join(self) -> None:
        """Wait for its end; nothing is written to the journal after it."""
        self._thread.join()

    def digest(self) -> str:
        """Wait for the end; the digest of the whole file. Raises what went wrong with the local disk."""
        self._thread.join()
        if self.failure is not None:
            raise self.failure
        return self._digest.hexdigest()

    def _run(self) -> None:
        try:
            with no_room_told(self._journal.part), self._journal.part.open("r+b", buffering=0) as file:
                self._journal.reserve(file)
                self._work.begin()
                self._hash_on(file.readinto)
                while (indexes := self._work.fetched()) is not None:
                    self._journal.commit(indexes)
                    self._hash_on(file.readinto)
        except HarnessError as error:
            self.failure = error
            self._work.stop()
        except Exception as error:  # noqa: BLE001 - as with the worker
            self.failure = Unforeseen.of(error)
            self._work.stop()

    def _hash_on(self, read_into: Callable[[memoryview], int | None]) -> None:
        block = memoryview(bytearray(BLOCK))
        while self._next in self._journal.done and not self._work.stopped:
            left = self._journal.span(self._next)[1]
            while left:
                size = read_into(block[: min(left, BLOCK)])
                if not size:
                    raise OSError("the file became shorter")
                self._digest.update(block[:size])
                left -= size
            self._next += 1
