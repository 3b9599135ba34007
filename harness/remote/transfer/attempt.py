"""One attempt at the missing chunks of a file: its workers, how many they are, and a watch over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.core.errors import HostUnreachable, TransferFailed
from harness.core.ids import Sha256
from harness.core.ports import Clock, OnProgress, Progress, RemoteFile
from harness.core.rate import RateMeter
from harness.remote.transfer.flow import ConnectionRamp, StallDetector
from harness.remote.transfer.journal import Journal
from harness.remote.transfer.streams import RangeStream
from harness.remote.transfer.workers import DownloadWorker, Piece, PieceQueue, Verifier

TICK_S = 0.2
RATE_WINDOW_S = 5.0
SHORT_S = 5.0
"""A transfer that ends sooner than this keeps the connections that it has."""


@dataclass(frozen=True, slots=True)
class RemoteDigests:
    """SHA-256 of the file on the box now, and of each of its chunks."""

    whole: Sha256
    chunks: tuple[Sha256, ...]


class Source(Protocol):
    """A box that serves byte ranges of its files."""

    def connections(self, size: int) -> int:
        """Connections to begin with, for a file of ``size`` bytes. Raises HostUnreachable."""

    def open(self, remote: RemoteFile, part: Path, give_up: Callable[[], bool]) -> RangeStream:
        """A stream into the local file; connecting is tried again until told to give up. Raises HostUnreachable."""

    def digests(self, remote: RemoteFile, chunk: int) -> RemoteDigests:
        """Digests of the file and its chunks on the box now. Raises TransferFailed, HostUnreachable."""


@dataclass(frozen=True, slots=True)
class TransferLimits:
    """Limits of one download: connections at a time, and waiting times in seconds."""

    connections: int = 8
    stall: float = 20.0
    """A stream that moves next to nothing for so long is cut."""
    patience: float = 300.0
    """The transfer is given up, to be continued by the next one, when nothing at all arrives for so long."""


DEFAULT_LIMITS = TransferLimits()


class Cancelled(TransferFailed):
    """The caller cancelled the transfer; what arrived is kept for the next one."""


class DownloadAttempt:
    """Workers fetch, the verifier follows, ``run`` watches both until every chunk is here."""

    def __init__(self, journal: Journal, source: Source, clock: Clock, limits: TransferLimits) -> None:
        self._journal = journal
        self._source = source
        self._clock = clock
        self._limits = limits
        missing = [index for index in range(journal.count) if index not in journal.done]
        self._queue = PieceQueue([Piece(index, *journal.span(index)) for index in missing])
        self._before = sum(journal.span(index)[1] for index in journal.done)
        self._workers: dict[DownloadWorker, StallDetector] = {}

    def run(self, on_progress: OnProgress, cancelled: Callable[[], bool]) -> str:
        """Fetch what is missing and return the digest of the whole local file.

        Raises Cancelled, RemoteChanged, HostUnreachable, LocalDiskFull, TransferFailed; the journal keeps the rest.
        """
        verifier = Verifier(self._queue, self._journal)
        verifier.start()
        try:
            if not self._queue.complete:
                self._watch(on_progress, cancelled)
        finally:
            if not self._queue.complete:
                self._queue.stop()
            for worker in self._workers:
                worker.join()
            verifier.join()
        digest = verifier.digest()
        on_progress(Progress(self._journal.remote.size, self._journal.remote.size))
        return digest

    def _watch(self, on_progress: OnProgress, cancelled: Callable[[], bool]) -> None:
        remote = self._journal.remote
        wanted = min(self._source.connections(remote.size), self._limits.connections)
        ramp = ConnectionRamp(wanted, self._limits.connections)
        meter = RateMeter(RATE_WINDOW_S)
        silence = StallDetector(self._limits.patience, least=1)
        while not self._queue.complete and not self._queue.stopped:
            now = self._clock.monotonic()
            received = sum(worker.received for worker in self._workers)
            reading = meter.update(now, self._before + received, remote.size)
            on_progress(Progress(reading.done, reading.total))
            if cancelled():
                raise Cancelled(f"the transfer of {remote.path} was cancelled")
            if self._queue.ready and silence.stalled(now, received):
                raise HostUnreachable(f"nothing of {remote.path} arrived for {self._limits.patience:.0f} s")
            self._check_workers(now)
            if reading.left_s is None or reading.left_s > SHORT_S:
                wanted = ramp.advise(now, received, sum(worker.flowing for worker in self._active()))
            self._staff(wanted)
            with self._queue.changed:
                if not self._queue.complete and not self._queue.stopped:
                    self._queue.changed.wait(TICK_S)

    def _active(self) -> list[DownloadWorker]:
        return [worker for worker in self._workers if not worker.ended and not worker.retired]

    def _check_workers(self, now: float) -> None:
        """Cut streams that stall; raise the failure of a worker unless it lost the box and others still have it."""
        for worker, stall in self._workers.items():
            if worker.failure is not None:
                if isinstance(worker.failure, HostUnreachable) and self._active():
                    continue
                raise worker.failure
            if not worker.waiting:
                stall.reset()
            elif stall.stalled(now, worker.received):
                worker.cut_stream()
                stall.reset()

    def _staff(self, wanted: int) -> None:
        """Start or retire workers until ``wanted`` are active."""
        active = self._active()
        for worker in active[wanted:]:
            worker.retire()
        for _ in range(wanted - len(active)):
            worker = DownloadWorker(self._queue, self._journal)
            self._workers[worker] = StallDetector(self._limits.stall)
            worker.start(self._open)
        self._queue.workers = wanted

    def _open(self, give_up: Callable[[], bool]) -> RangeStream:
        return self._source.open(self._journal.remote, self._journal.part, give_up)
