"""A whole job behind the fault port: a market that meters, a box whose files really come home, and an operator's words.

A ``Desk`` is where commands are typed: each runs in a process of its own, under the job's lock, as the command line
does it. What an error's remedy says can be typed, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import BadInput, HarnessError, JobBusy
from harness.core.ids import InstanceId, JobName, OfferId, is_label_of
from harness.core.lifecycle import Stage
from harness.core.ports import Charge, CreateRequest, DestroyReply, InstanceStatus, OnProgress, RemoteFile
from harness.guard.destroy import abandon
from harness.ledger.chain import Record
from harness.ledger.history import History, extended, fold
from harness.ledger.kinds import JobEvent
from harness.remote.transfer import attempt, download
from harness.remote.transfer.attempt import RemoteDigests
from harness.remote.transfer.streams import Range, RangeStream
from harness.runner import run as runner
from harness.runner.replacement import Agreement
from tests.support.context import MemoryStore, ScriptedContext, Telling, World, make_world
from tests.support.fault_port import FaultPort, MortalClock, Watched, watched_disk
from tests.support.scripted_world import BoxHost, Market

JOB = JobName("night")
_NOT_BILLED = frozenset({InstanceStatus.STOPPED, InstanceStatus.EXITED, InstanceStatus.OFFLINE})


@dataclass(slots=True)
class Metered(Market):
    """A market that charges by the second, by the true time, and knows how many of a job's instances ever billed."""

    spans: dict[InstanceId, list[list[float]]] = field(default_factory=dict)
    """Of each instance: begin, end (or none yet) and price of every time that was billed."""
    most_at_once: int = 0
    before_destroy: Callable[[InstanceId], None] = lambda _: None
    on_rent: Callable[[], None] = lambda: None
    ever: dict[InstanceId, str] = field(default_factory=dict)
    late_s: float = 0.0
    """Seconds by which the bill lags behind what is charged."""

    def create(self, offer: OfferId, request: CreateRequest) -> InstanceId:
        instance_id = Market.create(self, offer, request)
        self.on_rent()
        return instance_id

    def add(self, number: object, label: str | None, status: InstanceStatus = InstanceStatus.RUNNING) -> InstanceId:
        instance_id = Market.add(self, number, label, status)
        self.spans[instance_id], self.ever[instance_id] = [], label or ""
        self._meter(instance_id)
        return instance_id

    def change(self, instance_id: InstanceId, **fields: Any) -> None:
        Market.change(self, instance_id, **fields)
        self._meter(instance_id)

    def vanish(self, instance_id: InstanceId) -> None:
        """Somebody destroys it at the console."""
        self._end(instance_id)
        self.rented.pop(instance_id, None)

    def destroy(self, instance_id: InstanceId) -> DestroyReply:
        self.before_destroy(instance_id)
        self._end(instance_id)
        return Market.destroy(self, instance_id)

    def charges(self, instance_id: InstanceId) -> tuple[Charge, ...]:
        return self._charges(instance_id, self.clock.true() - self.late_s)

    def charged(self, instance_id: InstanceId) -> float:
        """Sum of an instance's charges so far (USD), shown on the bill or not yet."""
        return sum(one.usd for one in self._charges(instance_id, self.clock.true()))

    def _charges(self, instance_id: InstanceId, until: float) -> tuple[Charge, ...]:
        spans = [
            (start, min([until, *ended]), price)
            for start, *ended, price in self.spans.get(instance_id, ())
            if start <= until
        ]
        return tuple(
            Charge(instance_id, "gpu", (end - start) * price / 3600, start, end) for start, end, price in spans
        )

    def billing(self) -> list[InstanceId]:
        """Instances of the job that bill now."""
        return [one for one, spans in self.spans.items() if spans and len(spans[-1]) == 2 and self._ours(one)]

    def _ours(self, instance_id: InstanceId) -> bool:
        return is_label_of(self.ever[instance_id], JOB)

    def _meter(self, instance_id: InstanceId) -> None:
        self._end(instance_id)
        shown = self.rented[instance_id]
        if shown.status not in _NOT_BILLED:
            self.spans[instance_id].append([self.clock.true(), shown.usd_per_hour])
        self.most_at_once = max(self.most_at_once, len(self.billing()))

    def _end(self, instance_id: InstanceId) -> None:
        spans = self.spans.get(instance_id)
        if spans and len(spans[-1]) == 2:
            spans[-1] = [spans[-1][0], self.clock.true(), spans[-1][1]]


class _Bytes(RangeStream):
    """A stream of a file that lies on the same disk."""

    def __init__(self, remote: RemoteFile, part: Path) -> None:
        self._from = Path(remote.path).read_bytes()
        self._size = remote.size
        self._file = part.open("r+b", buffering=0)

    def ask(self, wanted: Range) -> None:
        pass

    def receive(self, wanted: Range, arrived: Callable[[int], None]) -> str:
        self._file.seek(wanted.offset)
        arrived(self._file.write(self._from[wanted.offset : wanted.offset + wanted.length]))
        return "same"

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        self._file.close()


class _Source:
    """The box as the transfer sees it."""

    def connections(self, size: int) -> int:
        return 1 if size else 0

    def open(self, remote: RemoteFile, part: Path, give_up: Callable[[], bool]) -> RangeStream:
        del give_up
        return _Bytes(remote, part)

    def digests(self, remote: RemoteFile, chunk: int) -> RemoteDigests:
        from harness.artifacts import digest

        data = Path(remote.path).read_bytes()
        chunks = [data[at : at + chunk] for at in range(0, len(data), chunk)]
        return RemoteDigests(digest.of_bytes(data), tuple(map(digest.of_bytes, chunks)))


@dataclass(slots=True)
class _TransferringHost(BoxHost):
    """A box from which files come home through the real transfer."""

    watch: Any

    def fetch(self, remote: RemoteFile, destination: Path, on_progress: OnProgress | None = None) -> None:
        self._reach()
        self.box.on_fetch(remote)
        download.fetch(remote, destination, _Source(), self.watch, on_progress=on_progress)


@dataclass(slots=True)
class Locking(MemoryStore):
    """A store whose lock is held by one process at a time."""

    held: bool = False

    @contextmanager
    def lock(self, job: JobName) -> Iterator[None]:
        if self.held:
            raise JobBusy(f"job {job} is being run by another process")
        self.held = True
        try:
            yield
        finally:  # by the system, when its holder dies
            self.held = False


class Process(ScriptedContext):
    """A process at work on the job; it reads the log once, and remembers."""

    def __init__(self, world: World, port: FaultPort) -> None:
        super().__init__(world, lambda _event, _done: None)
        self.port = port
        self._known: History | None = None
        self._at_market = Watched(world.provider, port, "provider")
        self._log = Watched(world.store, port, "log", frozenset({"append"}))

    @property
    def history(self) -> History:
        if self._known is None:
            self._known = fold(self.world.store.records(JOB))
        return self._known

    @property
    def clock(self) -> Any:
        return MortalClock(self.world.clock, self.port)

    def provider(self) -> Any:
        return self._at_market

    def fresh_host(self) -> Any:
        pin = self.history.pin
        host = _TransferringHost(self.world.box, pin.keys if pin else (), self.clock)
        return Watched(host, self.port, "box")

    def record(self, event: JobEvent) -> None:
        known, self._known = self.history, None
        record: Record = self._log.append(JOB, event, expected_seq=known.records[-1].seq)
        self._known = extended(known, record)


@dataclass(slots=True)
class Desk:
    """A terminal of an operator. ``typed`` lists the commands that were typed, without the harness's name."""

    world: World
    port: FaultPort = field(default_factory=FaultPort)
    process: Process | None = None
    typed: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def open(self) -> Process:
        """A process that has read the log, and does nothing yet."""
        self.process = Process(self.world, self.port)
        _ = self.process.history
        return self.process

    def run(
        self,
        *,
        until: Stage | None = None,
        accept: bool = False,
        replace: bool = False,
        loss: str | None = None,
        rent: bool = True,
    ) -> None:
        """``harness run``; ``rent``: somebody agrees to the rental."""
        self.typed.append("run" + " --accept-changes" * accept + " --replace-dead-instance" * replace)
        world = self.world
        telling, log = Telling(self.told), Watched(world.store, self.port, "log", frozenset({"append"}))
        with world.store.lock(JOB), watched_disk(self.port, world.home):
            runner.open_job(log, world.job, world.home / "job.toml", accept_changes=accept)
            process = Process(world, self.port)
            if process.history.closed:
                return
            runner.reopen_if_mended(process, telling)
            runner.reopen_if_spoilt(process, telling)
            agreement = Agreement(
                lambda plan: "agreed" if (replace if plan.meaning else rent) else None,
                lambda sentence: sentence == loss,
            )
            runner.run(process, telling, lambda _id, _file: "agreed", until=until, agreement=agreement)

    def destroy(self) -> None:
        """``harness destroy``, in a process that may have read the log a while ago."""
        self.typed.append("destroy")
        process, self.process = self.process or self.open(), None
        with self.world.store.lock(JOB), watched_disk(self.port, self.world.home):
            stage = process.history.stage
            if stage not in {None, Stage.TEARDOWN}:
                raise BadInput("its artifact is not verified on this machine", remedy="harness run JOB")
            if not process.history.closed:
                runner.run(process, Telling(self.told), lambda _id, _file: "agreed")

    def abandon(self, loss: str | None = None) -> None:
        """``harness abandon``, in a process that may have read the log a while ago."""
        self.typed.append("abandon" + " --accept-loss" * (loss is not None))
        process, self.process = self.process or self.open(), None
        with self.world.store.lock(JOB), watched_disk(self.port, self.world.home):
            abandon(process, lambda sentence: sentence == loss, self.told.append)

    def go_on(self, most: int = 12) -> None:
        """Type the command again, or what the last remedy says, until the job is closed.

        Raises AssertionError, with all that was said, when that leads nowhere.
        """
        self.port = FaultPort()
        said: list[str] = []
        command: Callable[[], None] = self.run
        for _ in range(most):
            try:
                command()
            except (HarnessError, OSError) as error:
                remedy = getattr(error, "remedy", "")
                said.append(f"{self.typed[-1]}: {type(error).__name__}: {error} -> {remedy}")
                command = self._as_told(remedy)
            else:
                if fold(self.world.store.records(JOB)).closed:
                    return
                said.append(f"{self.typed[-1]}: done")
                command = self.run
        raise AssertionError("no way forward:\n" + "\n".join(said))

    def _as_told(self, remedy: str) -> Callable[[], None]:
        """Command that a remedy names; without any, the same again."""
        loss = re.search(r"--accept-loss '([^']*)'", remedy)
        raised = re.search(r"Raise (\S+)\.(\w+) in the job file", remedy)
        if raised is not None:
            table, name = getattr(self.world.job, raised[1]), raised[2]
            changed = table.model_copy(update={name: 100 * getattr(table, name)})
            self.world.job = self.world.job.model_copy(update={raised[1]: changed})
        if loss is not None and "abandon" in self.typed[-1]:
            return lambda: self.abandon(loss[1])
        if "--replace-dead-instance" in remedy or "--replace-dead-instance" in self.typed[-1]:
            return lambda: self.run(
                replace=True, accept="--accept-changes" in remedy, loss=loss[1] if loss is not None else None
            )
        if "harness abandon" in remedy and "run the same command" not in remedy.lower():
            return self.abandon
        if re.search(r"(?<!look: )harness destroy\b", remedy) and "harness run" not in remedy:
            return self.destroy
        return lambda: self.run(accept="--accept-changes" in remedy)


def make_desk(folder: Path, patch: pytest.MonkeyPatch, **tables: Any) -> Desk:
    """A job of which nothing is begun: its model gets a second copy, its market meters."""
    tables.setdefault("artifact", {})["second_copy"] = str(folder / "home" / "copies")
    world = make_world(folder, patch, fast=True, **tables)
    patch.setattr(attempt, "TICK_S", 0.01)  # nothing here is waited for that long
    world.store = Locking(world.clock)
    world.market = Metered(world.clock)
    world.provider.inner = world.market
    return Desk(world)
