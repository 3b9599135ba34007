"""One attempt at the missing chunks of a file: how many workers, over which carrier, and a watch over all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from harness.core.errors import HostUnreachable, TransferFailed
from harness.core.ids import Sha256
from harness.core.ports import Clock, OnProgress, Progress, RemoteFile
from harness.remote.transfer.journal import Journal
from harness.remote.transfer.progress import Meter, Ramp, Stall
from harness.remote.transfer.streams import Stream
from harness.remote.transfer.workers import Piece, Prover, Unforeseen, Work, Worker

TICK_S = 0.2
WORTH_S = 5.0
"""A transfer that ends sooner than this is left with the connections it has."""


@dataclass(frozen=True, slots=True)
class RemoteDigests:
    """What the file on the box is now: its SHA-256, and that of each chunk."""

    whole: Sha256
    chunks: tuple[Sha256, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """What is known of the way to the box before the first byte: connections to begin with, and what carries them."""

    connections: int
    carrier: str
    """Enough by itself, for any number of connections."""
    alone: str | None = None
    """Costs this machine less, as long as it is the only connection."""


class Source(Protocol):
    """Where the bytes come from."""

    def line(self, size: int) -> Line:
        """The way to the box, for a file of ``size`` bytes. Raises HostUnreachable."""

    def open(self, remote: RemoteFile, part: Path, carrier: str, give_up: Callable[[], bool]) -> Stream:
        """A stream into the local file, connecting patiently until told to give up. Raises HostUnreachable."""

    def digests(self, remote: RemoteFile, chunk: int) -> RemoteDigests:
        """The digests on the box now. Raises TransferFailed, HostUnreachable."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How hard to try. Seconds."""

    connections: int = 8
    stall: float = 20.0
    """A stream that moves next to nothing for so long is cut."""
    patience: float = 300.0
    """The transfer is given up, to be continued by the next one, when nothing at all arrives for so long."""


NO_LIMITS = Limits()


class Cancelled(TransferFailed):
    """The caller called the transfer off; what arrived is kept for the next one."""


@dataclass(slots=True)
class _Slot:
    """A worker and what is known of it. ``mark`` is when its stream was first seen to flow, and its bytes then."""

    worker: Worker
    carrier: str
    stall: Stall
    opened_at: int = -1
    mark: tuple[float, int] | None = None


class Transfer:
    """Workers fetch, the prover follows, ``run`` watches both until every chunk is here."""

    def __init__(self, journal: Journal, source: Source, clock: Clock, limits: Limits) -> None:
        self._journal = journal
        self._source = source
        self._clock = clock
        self._limits = limits
        missing = [index for index in range(journal.count) if index not in journal.done]
        self._work = Work([Piece(index, *journal.span(index)) for index in missing])
        self._before = sum(journal.span(index)[1] for index in journal.done)
        self._slots: list[_Slot] = []
        self._line = Line(1, "")

    def run(self, on_progress: OnProgress, cancelled: Callable[[], bool]) -> str:
        """Fetch what is missing; the digest of the whole local file.

        Raises Cancelled, RemoteChanged, HostUnreachable, LocalDiskFull, TransferFailed; the journal keeps the rest.
        """
        prover = Prover(self._work, self._journal)
        prover.start()
        try:
            if not self._work.complete:
                self._watch(on_progress, cancelled)
        finally:
            if not self._work.complete:
                self._work.stop()
            for slot in self._slots:
                slot.worker.join()
            prover.join()
        digest = prover.digest()
        on_progress(Progress(self._journal.remote.size, self._journal.remote.size, 0.0))
        return digest

    @property
    def received(self) -> int:
        """Bytes that came over the network."""
        return sum(slot.worker.received for slot in self._slots)

    def _watch(self, on_progress: OnProgress, cancelled: Callable[[], bool]) -> None:
        self._line = self._source.line(self._journal.remote.size)
        wanted = min(self._line.connections, self._limits.connections)
        ramp = Ramp(wanted, self._limits.connections)
        meter = Meter(self._journal.remote.size, self._before, self._clock.monotonic())
        silence = Stall(self._limits.patience, least=1)
        while not self._work.complete and not self._work.stopped:
            now = self._clock.monotonic()
            received = self.received
            progress = meter.at(now, self._before + received)
            on_progress(progress)
            if cancelled():
                raise Cancelled(f"the transfer of {self._journal.remote.path} was called off")
            if not self._work.ready:
                silence.reset()
            elif silence.over(now, received):
                raise HostUnreachable(
                    f"nothing of {self._journal.remote.path} arrived for {self._limits.patience:.0f} s"
                )
            self._judge(now)
            if progress.total - progress.done > WORTH_S * progress.rate:
                flowing = sum(slot.mark is not None for slot in self._active())
                wanted = ramp.advise(now, received, flowing)
            self._staff(wanted)
            with self._work.changed:
                if not self._work.complete and not self._work.stopped:
                    self._work.changed.wait(TICK_S)

    def _active(self) -> list[_Slot]:
        return [slot for slot in self._slots if not slot.worker.ended and not slot.worker.retired]

    def _judge(self, now: float) -> None:
        """Cut streams that stall; raise what a worker died of, unless others can go on without it."""
        for slot in self._slots:
            worker = slot.worker
            if isinstance(worker.failure, HostUnreachable | Unforeseen) and slot.carrier != self._line.carrier:
                self._not_alone()
                continue
            if isinstance(worker.failure, HostUnreachable) and self._active():
                continue
            if worker.failure is not None:
                raise worker.failure
            if not worker.waiting:
                slot.mark = None
                slot.stall.reset()
            elif slot.stall.over(now, worker.received):
                worker.kick()
                slot.stall.reset()
            elif slot.mark is None and worker.received > slot.opened_at:
                slot.mark = (now, worker.received)

    def _not_alone(self) -> None:
        """What was to carry the only connection does not even begin: do without it."""
        self._line = replace(self._line, alone=None)

    def _staff(self, wanted: int) -> None:
        """Have as many workers as the line deserves."""
        carrier = self._line.alone if wanted == 1 and self._line.alone is not None else self._line.carrier
        fitting = [slot for slot in self._active() if slot.carrier == carrier][:wanted]
        for slot in self._active():
            if slot not in fitting:
                slot.worker.retire()
        for _ in range(wanted - len(fitting)):
            slot = _Slot(Worker(self._work, self._journal), carrier, Stall(self._limits.stall))
            self._slots.append(slot)
            slot.worker.start(functools.partial(self._open, slot))
        self._work.workers = wanted

    def _open(self, slot: _Slot, give_up: Callable[[], bool]) -> Stream:
        """The worker's next stream; what brought nothing the last time is not tried again."""
        if slot.worker.received == slot.opened_at and slot.carrier == self._line.alone:
            self._not_alone()
            slot.carrier = self._line.carrier
        slot.opened_at = slot.worker.received
        return self._source.open(self._journal.remote, self._journal.part, slot.carrier, give_up)
