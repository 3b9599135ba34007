"""Brings one file home: ranges over several connections into a preallocated file, proved from the local disk.

The order of proof: a chunk's bytes are written, the disk has them, the journal says so, the
hash of the whole file is taken from the disk behind the last proven chunk, and only when it
equals the recorded digest the file gets its name. When it does not, the box's own list of
chunk digests tells which chunks to fetch again, alone. A cut loses nothing that was received:
the rest of the range is asked for on a new connection.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.errors import HostUnreachable, RemoteChanged, TransferFailed
from harness.ids import Sha256
from harness.ports import Clock, OnProgress, Progress, RemoteFile
from harness.remote.hostile import problem_of_remote
from harness.remote.journal import Journal, no_room_told
from harness.remote.progress import Meter, Ramp, Stall
from harness.remote.streams import RangeStream
from harness.remote.work import Piece, Prover, Work, Worker

TICK_S = 0.2
ROUNDS = 4
"""How often wrong chunks are fetched again, or a touched file looked at anew, before the transfer is given up."""


@dataclass(frozen=True, slots=True)
class RemoteDigests:
    """What the file on the box is now: its SHA-256, and that of each chunk."""

    whole: Sha256
    chunks: tuple[Sha256, ...]


class Source(Protocol):
    """Where the bytes come from."""

    def open(self, path: str, give_up: Callable[[], bool]) -> RangeStream:
        """A stream of a file's ranges, connecting patiently until told to give up. Raises HostUnreachable."""

    def first(self) -> int:
        """How many connections to begin with on this line."""

    def digests(self, path: str, size: int, chunk: int) -> RemoteDigests:
        """The digests on the box now. Raises RemoteChanged, HostUnreachable."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How hard to try. Seconds."""

    connections: int = 8
    stall: float = 20.0
    """A stream that moves next to nothing for so long is cut."""
    patience: float = 300.0
    """The transfer is given up, to be continued by the next one, when nothing at all arrives for so long."""


class Cancelled(TransferFailed):
    """The caller called the transfer off; what arrived is kept for the next one."""


NO_LIMITS = Limits()


def fetch(
    remote: RemoteFile,
    destination: Path,
    source: Source,
    clock: Clock,
    *,
    on_progress: OnProgress | None = None,
    limits: Limits = NO_LIMITS,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Fetch ``remote`` to ``destination``; see ``ports.Host.fetch``. Raises Cancelled once ``cancelled`` says so."""
    odd = problem_of_remote(remote.path)
    if odd is not None or remote.size < 0:
        raise TransferFailed(f"the remote file {remote.path[:200]!r} is refused: {odd or 'its size is negative'}")
    journal = Journal(remote, destination)
    if is_whole(destination, remote):
        journal.discard()
        return
    journal.open()
    for _ in range(ROUNDS):
        try:
            digest = _Transfer(journal, source, clock, limits).run(on_progress or (lambda _: None), cancelled)
        except RemoteChanged:
            _unchanged(journal, source)  # touched or replaced by the same bytes: go on
            continue
        if digest == remote.sha256:
            with no_room_told(journal.part):
                journal.publish()
            return
        journal.forget(_wrong_chunks(journal, _unchanged(journal, source)))
    raise TransferFailed(f"{remote.path} does not arrive as recorded, after {ROUNDS} attempts at its wrong chunks")


def is_whole(destination: Path, remote: RemoteFile) -> bool:
    """Whether the local file is, byte for byte, the remote one."""
    try:
        if destination.stat().st_size != remote.size:
            return False
        with destination.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == remote.sha256
    except FileNotFoundError:
        return False
    except OSError as error:
        raise TransferFailed(f"{destination} cannot be read: {error.strerror or error}") from error


def _unchanged(journal: Journal, source: Source) -> RemoteDigests:
    """The box's digests, when the file there is still the recorded one; else what was fetched is worthless."""
    now = source.digests(journal.remote.path, journal.remote.size, journal.chunk)
    if now.whole != journal.remote.sha256:
        journal.discard()
        raise RemoteChanged(
            f"{journal.remote.path} on the box has the SHA-256 {now.whole}; recorded was {journal.remote.sha256}"
        )
    return now


def _wrong_chunks(journal: Journal, now: RemoteDigests) -> list[int]:
    """The chunks of the local file that differ from the box's."""
    with no_room_told(journal.part), journal.part.open("rb") as file:
        found = [hashlib.sha256(file.read(journal.span(index)[1])).hexdigest() for index in range(journal.count)]
    wrong = [index for index in range(journal.count) if found[index] != now.chunks[index]]
    if not wrong:
        raise TransferFailed(
            f"the box contradicts itself about {journal.remote.path}: every chunk is as it says, the whole is not",
            remedy="Do not trust this box's digests; look at the file there before anything is destroyed.",
        )
    return wrong


class _Transfer:
    """One attempt at all missing chunks: workers, the prover behind them, and a watch over both."""

    def __init__(self, journal: Journal, source: Source, clock: Clock, limits: Limits) -> None:
        self._journal = journal
        self._source = source
        self._clock = clock
        self._limits = limits
        missing = [index for index in range(journal.count) if index not in journal.done]
        self._work = Work([Piece(index, *journal.span(index)) for index in missing])
        self._before = sum(journal.span(index)[1] for index in journal.done)
        self._workers: list[tuple[Worker, Stall]] = []
        self._retired = 0

    def run(self, on_progress: OnProgress, cancelled: Callable[[], bool]) -> str:
        """Fetch what is missing; the digest of the whole local file."""
        prover = Prover(self._work, self._journal)
        prover.start()
        try:
            if not self._work.complete:
                self._watch(on_progress, cancelled)
        finally:
            if not self._work.complete:
                self._work.stop()
            for worker, _ in self._workers:
                worker.join()
        digest = prover.digest()
        on_progress(Progress(self._journal.remote.size, self._journal.remote.size, 0.0))
        return digest

    def _watch(self, on_progress: OnProgress, cancelled: Callable[[], bool]) -> None:
        now = self._clock.monotonic()
        meter = Meter(self._journal.remote.size, self._before, now)
        ramp = Ramp(self._source.first(), self._limits.connections)
        silence = Stall(self._limits.patience, least=1)
        while not self._work.complete and not self._work.stopped:
            now = self._clock.monotonic()
            received = sum(worker.received for worker, _ in self._workers)
            on_progress(meter.at(now, self._before + received))
            if cancelled():
                raise Cancelled(f"the transfer of {self._journal.remote.path} was called off")
            if silence.over(now, received):
                raise HostUnreachable(
                    f"nothing of {self._journal.remote.path} arrived for {self._limits.patience:.0f} s"
                )
            self._judge(now)
            streaming = sum(worker.streaming for worker, _ in self._active())
            self._staff(ramp.advise(now, received, streaming))
            with self._work.changed:
                if not self._work.complete and not self._work.stopped:
                    self._work.changed.wait(TICK_S)

    def _active(self) -> list[tuple[Worker, Stall]]:
        return [(worker, stall) for worker, stall in self._workers if not worker.ended and not worker.retired]

    def _judge(self, now: float) -> None:
        """Cut streams that stall; raise what a worker died of, unless others can go on without it."""
        for worker, stall in self._workers:
            if isinstance(worker.failure, HostUnreachable) and self._active():
                continue
            if worker.failure is not None:
                raise worker.failure
            if not worker.streaming:
                stall.reset()
            elif stall.over(now, worker.received):
                worker.kick()
                stall.reset()

    def _staff(self, wanted: int) -> None:
        """Have as many workers as the line deserves."""
        active = self._active()
        for worker, _ in active[wanted:]:
            worker.retire()
        for _ in range(wanted - len(active)):
            worker = Worker(
                self._work, self._journal, lambda give_up: self._source.open(self._journal.remote.path, give_up)
            )
            self._workers.append((worker, Stall(self._limits.stall)))
            worker.start()
        self._work.workers = wanted
