"""A job at a context whose provider, box, clock and gates are scripted; its event log and its files are real.

A ``World`` outlives the processes that work on its job: each ``world.context()`` is a new process.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.core import durable
from harness.core.errors import Conflict
from harness.core.ids import InstanceId, JobName, Sha256
from harness.core.lifecycle import Stage
from harness.core.ports import Host, Provider
from harness.core.rate import Meter
from harness.gates import judge
from harness.gates.evidence import CheckResult, GateResult
from harness.gates.facts_file import FactsFile, TakenFacts, digest
from harness.guard.destroy import Confirm
from harness.job.model import Job
from harness.ledger import chain
from harness.ledger.chain import Record
from harness.ledger.codec import encode
from harness.ledger.events import Opened, Rented, RentIntended
from harness.ledger.history import History, fold
from harness.ledger.jobs import Ledger
from harness.ledger.kinds import JobEvent
from harness.ledger.limits import AccountLimits
from harness.ledger.ownership import Known
from harness.ledger.sql import open_store
from harness.ledger.store import EventStore
from harness.providers.scoped_keys import StopKeyIssuer
from harness.runner import run as runner
from harness.runner.replacement import Agreement
from tests.support import job_histories
from tests.support.fake_clock import FakeClock
from tests.support.faulty_provider import FaultyProvider
from tests.support.scripted_keys import ScriptedKeys
from tests.support.scripted_world import Box, BoxHost, Market, offer

RENTS = Agreement(lambda plan: None if plan.meaning else "the test agrees", lambda _: False)
"""Agrees to a first rental, and to no other in the place of a dead one."""


class Killed(BaseException):
    """The process dies here: nothing may catch it."""


@dataclass(slots=True)
class MemoryStore:
    """A ``ports.EventStore`` that seals for real and waits for no disk, for tests that run a job many times."""

    clock: FakeClock
    logs: dict[JobName, list[Record]] = field(default_factory=dict)

    def append(self, job: JobName, event: JobEvent, *, expected_seq: int | None = None) -> Record:
        kind, data = encode(event)
        log = self.logs.setdefault(job, [])
        if expected_seq is not None and expected_seq != len(log):
            raise Conflict(f"expected {expected_seq}")
        record = chain.seal(chain.head_of(log), job, self.clock.now(), kind, json.loads(json.dumps(data)))
        log.append(record)
        return record

    def records(self, job: JobName, *, brief: bool = False) -> tuple[Record, ...]:
        del brief
        return tuple(self.logs.get(job, ()))

    def jobs(self) -> tuple[JobName, ...]:
        return tuple(sorted(self.logs))

    def outlines(self) -> dict[JobName, tuple[Record, ...] | None]:
        return {job: self.records(job) for job in self.jobs()}

    def verify(self, job: JobName) -> tuple[str, ...]:
        log = self.logs.get(job, [])
        return chain.problems(log, chain.head_of(log))

    @contextmanager
    def lock(self, job: JobName) -> Iterator[None]:
        del job
        yield

    @property
    def shared(self) -> bool:
        return False

    def keep(self, sha256: Sha256, data: bytes) -> None:
        pass

    def kept(self, sha256: Sha256) -> bytes | None:
        del sha256
        return None

    def holder(self, job: JobName) -> str | None:
        del job
        return None

    def require_lease(self, job: JobName, *, within_s: float = 0.0) -> None:
        pass


@dataclass(slots=True)
class Telling:
    """A ``ProgressReporter`` that remembers."""

    notes: list[str] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    meters: list[tuple[str, str]] = field(default_factory=list)

    def stage(self, stage: Stage) -> None:
        self.stages.append(stage)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def meter(self, meter: Meter, done: int, total: int, detail: str = "") -> None:
        del done, total
        self.meters.append((meter.name, detail))

    def judged(self, stage: Stage, judge: GateResult) -> None:
        pass


@dataclass(slots=True)
class World:
    """What stays when a process dies: the disk, the provider, the box, time; and what the gates will say.

    ``gates`` lists, by stage, what bends each judgement in turn; afterwards every check passes.
    """

    home: Path
    job: Job
    store: EventStore
    clock: FakeClock
    market: Market
    box: Box
    provider: FaultyProvider
    gates: dict[Stage, list[tuple[CheckResult, ...]]] = field(default_factory=dict)
    judged: list[Stage] = field(default_factory=list)
    limits: AccountLimits | None = None
    keys: ScriptedKeys = field(default_factory=ScriptedKeys)
    _folded: History | None = None

    def context(self, on_record: Callable[[JobEvent, bool], None] = lambda _event, _done: None) -> ScriptedContext:
        """A process that begins to work on the job."""
        return ScriptedContext(self, on_record)

    def open(self) -> None:
        """The job's first event."""
        runner.open_job(self.store, self.job, self.home / "job.toml", accept_changes=False)

    def change(self, **tables: Mapping[str, Any]) -> None:
        """The job file is changed in these fields of its tables, and agreed to."""
        told = self.job.model_dump()
        for name, values in tables.items():
            told[name] = {**told[name], **values}
        self.job = type(self.job).model_validate(told)
        runner.open_job(self.store, self.job, self.home / "job.toml", accept_changes=True)

    def run(
        self,
        confirm: Confirm = lambda _id, _file: "the test agrees",
        *,
        until: Stage | None = None,
        on_record: Callable[[JobEvent, bool], None] = lambda _event, _done: None,
        agreement: Agreement = RENTS,
    ) -> Telling:
        """One ``harness run``, from opening to end; what it told."""
        telling = Telling()
        self.open()
        context = self.context(on_record)
        runner.reopen_if_mended(context, telling)
        runner.reopen_if_spoilt(context, telling)
        runner.run(context, telling, confirm, until=until, agreement=agreement)
        return telling

    @property
    def history(self) -> History:
        """The job's life so far."""
        known = self.store.records(JobName(self.job.name))
        if self._folded is None or self._folded.records != known:
            self._folded = fold(known)
        return self._folded

    def kinds(self) -> list[type[JobEvent]]:
        """The kinds of its events, in order."""
        return [type(event) for event in job_histories.events_of(self.store.records(self.job.name))]

    def judge(self, facts: Path) -> GateResult:
        """What stands for pytest over checks/: every check passes, but what was bent for this judgement."""
        stage = Stage(json.loads(facts.read_bytes())["stage"])
        self.judged.append(stage)
        bent = self.gates.get(stage) or [()]
        return job_histories.gate(stage, self.job, *(bent.pop(0) if len(bent) else ()))


@dataclass(slots=True)
class ScriptedContext:
    """A ``RunnerContext`` over a world. ``on_record`` is called before (False) and after (True) every append."""

    world: World
    on_record: Callable[[JobEvent, bool], None]
    _host: BoxHost | None = None

    @property
    def job(self) -> Job:
        return self.history.job

    @property
    def directory(self) -> Path:
        return self.world.home / "jobs" / self.world.job.name

    @property
    def clock(self) -> FakeClock:
        return self.world.clock

    @property
    def history(self) -> History:
        return self.world.history

    @property
    def public_key(self) -> str:
        return "ssh-ed25519 AAAA operator"

    @property
    def destination(self) -> Path:
        return self.job.artifact.destination or self.directory / "artifact"

    def show(self, meter: Meter, done: int, total: int) -> None:
        pass

    def known(self) -> Known:
        return Ledger(self.world.store).known(self.job.provider)

    def stop_keys(self) -> StopKeyIssuer:
        return self.world.keys

    def limits(self) -> AccountLimits | None:
        return self.world.limits

    def jobs(self) -> tuple[History, ...]:
        return Ledger(self.world.store).outlined()

    def earlier(self) -> tuple[History, ...]:
        return ()

    def provider(self) -> Provider:
        return self.world.provider

    def host(self) -> Host:
        if self._host is None:
            self._host = self.fresh_host()
        return self._host

    def fresh_host(self) -> BoxHost:
        pin = self.history.pin
        return BoxHost(self.world.box, pin.keys if pin else ())

    def shown_host_key(self) -> str:
        return self.world.box.host_key

    def read_anew(self) -> None:
        pass  # the world's history always is

    def forget_connections(self) -> None:
        self._host = None

    def record(self, event: JobEvent) -> None:
        self.on_record(event, False)
        name = self.world.job.name
        self.world.store.append(name, event, expected_seq=len(self.world.store.records(name)))
        self.on_record(event, True)

    def require_lease(self, *, within_s: float = 0.0) -> None:
        self.world.store.require_lease(self.world.job.name, within_s=within_s)

    def take_facts(self, stage: str) -> TakenFacts:
        facts = FactsFile(str(stage), self.job, self.clock.now(), 0.0, {})
        path = self.directory / "evidence" / f"{stage}-{len(self.world.judged)}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write(path, facts.dump())
        return TakenFacts(path, digest(facts.dump()), facts)


def make_world(folder: Path, monkeypatch: pytest.MonkeyPatch, *, fast: bool = False, **tables: Any) -> World:
    """A job of the seeds' profile, nothing of it begun; ``fast`` keeps its event log in memory."""
    source = folder / "package"
    for name in ("train_deepseek_forex.py", "requirements.txt"):
        source.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("# the package\n")
    for name in ("real_feature_examples", "real_trade_scenarios", "real_dpo_pairs"):
        data = source / "data" / "forex_integrated" / f"{name}.jsonl"
        data.parent.mkdir(parents=True, exist_ok=True)
        data.write_text("{}\n")
    remote = folder / "box" / "vastai_llm_training"
    remote.mkdir(parents=True)
    tables["package"] = {"source": str(source), "remote_dir": str(remote), "prepare": [], **tables.get("package", {})}
    job = job_histories.job(**tables)
    clock = FakeClock(job_histories.BEGAN)
    market, box = Market(clock), Box(remote, clock)
    store: EventStore = MemoryStore(clock) if fast else open_store(folder / "home" / "state.db", clock)
    (folder / "home").mkdir(exist_ok=True)
    world = World(folder / "home", job, store, clock, market, box, FaultyProvider(market))
    monkeypatch.setattr(judge, "judge", world.judge)
    return world


def other_job(world: World, number: int) -> InstanceId:
    """Another job of the same ledger has rented an instance."""
    day = job_histories.job().model_copy(update={"name": JobName("day")})
    label = "gsh-day-0a1b2c3d"
    world.store.append(day.name, Opened(day.model_dump(mode="json"), "day.toml"))
    told = dataclasses.asdict(offer())
    world.store.append(day.name, RentIntended(label, told, world.market.user))
    world.store.append(day.name, Rented(InstanceId(number), label, told, 15.9, world.market.user))
    return world.market.add(number, label)
