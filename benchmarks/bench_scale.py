"""A month of 1,000 jobs a day, seen beforehand: the store, Vast's limits, and what people wait for.

    python -m benchmarks.bench_scale
    python -m benchmarks.bench_scale --lives 1000    # a day whole; CPU hours

The runner lives some jobs whole, over a scripted provider and box whose clock alone moves, all of them into one event
store on this disk. They differ in how long they train. A day, a month and ten times as many jobs are reckoned from
them: a day's calls to the provider are those of its jobs, each one of these lives begun at a random time, and a listing
takes as many pages as there are instances then. Another store, of the size that the bars name, is filled with copies of
one of these logs, lengthened by polls; a tenth of its jobs still trains. A check's result is as long as a real gate's.

Bars: ``harness status`` over 500 jobs with 200,000 events takes 1 s, and so does the report of one of them. Both are
whole processes, started anew, of which the shortest of five counts; the bar is on their CPU seconds, for they do one
thing at a time, and other work on the machine adds less to these than to what passes on the wall.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import table
from benchmarks.table import Row

try:
    import pytest
except ModuleNotFoundError as error:
    table.absent(error)

from benchmarks.bench_paid_minutes import ADAPTER_BYTES, MBIT, MODEL_BYTES, Play, drive
from harness import facts
from harness.core import durable
from harness.core.canonical import canonical
from harness.core.clock import SystemClock
from harness.core.ids import JobName
from harness.core.lifecycle import Stage
from harness.gates import judge
from harness.gates.evidence import CheckResult, Sight
from harness.gates.facts_file import FactsFile, TakenFacts, digest
from harness.ledger import chain
from harness.ledger.chain import Record
from harness.ledger.events import Destroyed, Opened, Polled, Rented
from harness.ledger.jobs import Ledger
from harness.ledger.kinds import JobEvent
from harness.ledger.schema import OF_A_STAGE
from harness.ledger.sql import SqlEventStore, open_store
from harness.providers.rate_limits import Lane, Pace
from tests.support import job_histories
from tests.support.context import MemoryStore, ScriptedContext, make_world
from tests.support.fake_clock import FakeClock
from tests.support.scripted_world import Market

DAY_S = 86_400.0
A_DAY, DAYS, TIMES = 1000, 30, 10
RESULT_BYTES = 1_000
"""Bytes of one check's result in the store: 175 kB of gates with 170 results, in the log of ``harness demo``."""
TRAIN_S = (0.5 * 1932, 1.5 * 1932)
"""Seconds that a training takes, from and to: the profile's steps at its pace are 1,932 s."""
PAGE = 25
"""Instances a page of Vast's listing."""
LANES: Mapping[str, Lane] = {
    "account": Lane.ACCOUNT,
    "search": Lane.SEARCH,
    "create": Lane.CREATE,
    "instance": Lane.SHOW,
    "instances": Lane.LIST,
    "pending_prices": Lane.LIST,
    "attach_key": Lane.KEYS,
    "host_keys": Lane.LOGS,
    "start": Lane.MANAGE,
    "stop": Lane.MANAGE,
    "destroy": Lane.DESTROY,
    "charges": Lane.CHARGES,
    "volumes": Lane.VOLUMES,
}
"""Limit under which each method of a provider is counted."""


@dataclass(frozen=True, slots=True)
class Life:
    """One job: its calls as (second of its life, method), its length, when its instance was there, and its appends."""

    calls: tuple[tuple[float, str], ...]
    seconds: float
    rented: tuple[float, float]
    appends: tuple[float, ...]
    """Seconds that each took, on the disk."""


@dataclass(slots=True)
class _Kept:
    """Store that writes to the disk, and reads what this process wrote from memory, as a run's context does."""

    disk: SqlEventStore
    memory: MemoryStore
    took: list[float] = field(default_factory=list)

    def append(self, job: JobName, event: JobEvent, *, expected_seq: int | None = None) -> Record:
        began = time.perf_counter()
        record = self.disk.append(job, event, expected_seq=expected_seq)
        self.took.append(time.perf_counter() - began)
        self.memory.logs.setdefault(job, []).append(record)
        return record

    def __getattr__(self, name: str) -> Any:
        return getattr(self.memory, name)


def live(home: Path, number: int) -> Life:
    """Live one job; its log, its evidence and its folder stay in the home."""
    rng = random.Random(number)
    play = Play(1000 * MBIT, 100 * MBIT, 20 * MBIT, rng.uniform(*TRAIN_S))
    calls: list[tuple[float, str]] = []
    with tempfile.TemporaryDirectory(dir=home) as name, pytest.MonkeyPatch.context() as bent:
        world = make_world(Path(name), bent, fast=True)
        assert isinstance(world.store, MemoryStore)
        world.home, world.job = home, world.job.model_copy(update={"name": f"job-{number:05}"})
        world.store = kept = _Kept(open_store(home / "state.db", world.clock), world.store)
        _say_as_much_as_a_real_gate(bent)
        bent.setattr(ScriptedContext, "take_facts", _taken)
        for method in LANES:
            bent.setattr(Market, method, _counted(getattr(Market, method), method, world.clock, calls))
        drive(world, bent, play)
        records = kept.records(JobName(world.job.name))
    began, rented, gone = (_at(records, kind) for kind in (Opened, Rented, Destroyed))
    told = tuple((at - began, method) for at, method in calls)
    return Life(told, records[-1].at - began, (rented - began, gone - began), tuple(kept.took))


def _at(records: Sequence[Record], kind: type[JobEvent]) -> float:
    return next(record.at for record in records if record.kind == kind.kind)


def _counted(method: Callable[..., Any], name: str, clock: FakeClock, calls: list[tuple[float, str]]) -> Any:
    def counted(*args: Any, **named: Any) -> Any:
        calls.append((clock.now(), name))
        return method(*args, **named)

    return counted


def _say_as_much_as_a_real_gate(bent: pytest.MonkeyPatch) -> None:
    check = job_histories.check

    def told(*args: Any, **named: Any) -> CheckResult:
        return check(*args, saw=(Sight("seen", "x" * (RESULT_BYTES - 200)),), **named)

    bent.setattr(job_histories, "check", told)


def _taken(context: ScriptedContext, stage: str) -> TakenFacts:
    """Facts as a run takes them where the scripted world can be looked at whole, as far as the calls of a look go."""
    looks = Stage(stage) in {Stage.PROVISION, Stage.TRAINING, Stage.TEARDOWN}
    seen = facts.look(Stage(stage), context) if looks else {}
    taken = FactsFile(stage, context.job, context.clock.now(), 0.0, seen)
    path = context.directory / "evidence" / f"{stage}-{len(context.world.judged)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write(path, taken.dump())
    return TakenFacts(path, digest(taken.dump()), taken)


@dataclass(frozen=True, slots=True)
class Day:
    """So many lives begun at random times of an endless day: what each minute of it sees."""

    calls: Mapping[Lane, Sequence[int]]
    alive: Sequence[int]


def day(lives: Sequence[Life], jobs: int) -> Day:
    """One day of so many jobs, each of them one of the lives; what reaches beyond midnight comes round again."""
    rng = random.Random(jobs)
    minutes = int(DAY_S / 60)
    alive, calls = [0] * minutes, {lane: [0] * minutes for lane in LANES.values()}
    begun = [(rng.uniform(0, DAY_S), lives[number % len(lives)]) for number in range(jobs)]
    for at, life in begun:
        for minute in range(int((at + life.rented[0]) / 60), int((at + life.rented[1]) / 60) + 1):
            alive[minute % minutes] += 1
    for at, life in begun:
        for second, method in life.calls:
            minute = int((at + second) / 60) % minutes
            pages = -(-alive[minute] // PAGE) if method == "instances" else 1
            calls[LANES[method]][minute] += max(1, pages)
    return Day(calls, alive)


def fill(file: Path, lived: Sequence[Record], jobs: int, events: int) -> None:
    """A store of many jobs with the log of one, lengthened by polls; of every tenth the training still runs.

    Written past the store's own door, which waits for the disk at every event.
    """
    open_store(file, SystemClock())
    polls = [at for at, record in enumerate(lived) if record.kind == Polled.kind]
    with closing(sqlite3.connect(file)) as store, store:
        for number in range(jobs):
            name, newest = _bar(number), chain.EMPTY
            renamed = [json.loads(canonical(one.data).decode().replace(one.job, name)) for one in lived]
            texts = [canonical(data).decode() for data in renamed]
            ends = range(polls[-1] + 1, len(lived) if number % 10 else polls[-1] + 1)
            again = [polls[-1]] * (events // jobs - polls[-1] - len(ends))
            for at in (*range(polls[-1]), *again, *ends):
                sealed = chain.seal(newest, JobName(name), lived[at].at, lived[at].kind, renamed[at])
                newest = chain.head_of([sealed])
                stage = renamed[at]["stage"] if sealed.kind in OF_A_STAGE else None
                values = (name, sealed.seq, sealed.at, sealed.kind, texts[at], sealed.previous, sealed.digest, stage)
                store.execute(_INSERT, values)
            store.execute("INSERT INTO heads (job, seq, digest) VALUES (?, ?, ?)", (name, newest.seq, newest.digest))


_INSERT = "INSERT INTO events (job, seq, at, kind, data, previous, digest, stage) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Typed:
    """A command: seconds of the shortest of several runs, its CPU seconds, and the most memory that one took (MiB)."""

    seconds: float
    cpu: float
    memory: float


def typed(home: Path, *words: str, rounds: int = 5) -> Typed:
    """A command as whole processes, started anew."""
    runs = []
    for _ in range(rounds):
        began = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, *words], env={**os.environ, "HARNESS_HOME": str(home)}, stdout=subprocess.DEVNULL
        ) as process:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{words} ended with {process.returncode}")
        runs.append(Typed(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024))
    return Typed(*(pick(getattr(run, name) for run in runs) for name, pick in _SHORTEST.items()))


_SHORTEST = {"seconds": min, "cpu": min, "memory": max}


def _lived(home: Path, lives: int) -> tuple[list[Life], float]:
    """The lives, on as many processes as there are cores, and the seconds that all took."""
    began = time.perf_counter()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(partial(live, home), range(lives))), time.perf_counter() - began


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """The month, then the bars."""
    lives, jobs, events = (10, 50, 20_000) if options.quick else (options.lives, options.jobs, options.events)
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as name:
        home, bar, empty = (Path(name, one) for one in ("day", "bar", "empty"))
        home.mkdir()
        yield from _month(home, empty, lives)
        lived = max((_log(home, number) for number in range(lives)), key=len)
        bar.mkdir()
        fill(bar / "state.db", lived, jobs, events)
        for number in (1, *range(0, jobs, 10)):  # those of which a file is read
            shutil.copytree(home / "jobs" / lived[0].job / "evidence", bar / "jobs" / _bar(number) / "evidence")
        yield Row(f"the bars' store: {jobs} jobs, {events:,} events", ours=_bytes(bar) / 1e9, unit="GB")
        nothing, took = typed(empty, "-m", "harness", "status"), typed(bar, "-m", "harness", "status")
        yield Row("status, no job", ours=nothing.cpu, unit="CPU s")
        month = A_DAY * DAYS / jobs
        yield Row(f"status, {A_DAY * DAYS:,} jobs, reckoned", ours=(took.cpu - nothing.cpu) * month, unit="CPU s")
        memory = nothing.memory + (took.memory - nothing.memory) * month
        yield Row(f"status, {A_DAY * DAYS:,} jobs, reckoned", ours=memory, unit="MiB")
        for words in (("status",), ("status", "--json"), ("report", _bar(1))):
            told, took = f"{' '.join(words)}, {jobs} jobs, {events:,} events", typed(bar, "-m", "harness", *words)
            yield Row(told, "a second", took.cpu, 1.0, None if options.quick else 1.0, unit="CPU s")
            yield Row(told, "a second", took.seconds, 1.0)
            yield Row(told, ours=took.memory, unit="MiB")


def _bar(number: int) -> str:
    return f"bar-{number:05}"


def _log(home: Path, number: int) -> tuple[Record, ...]:
    return open_store(home / "state.db", SystemClock()).records(JobName(f"job-{number:05}"))


def _bytes(home: Path) -> int:
    return (home / "state.db").stat().st_size


def _month(home: Path, empty: Path, count: int) -> Iterator[Row]:
    lives, took = _lived(home, count)
    appends = [second for life in lives for second in life.appends]
    each, size, per_day = len(appends) / count, _bytes(home) / count, f"{A_DAY:,} jobs a day"
    yield Row("lived whole", ours=float(count), unit="jobs")
    yield Row("events a job", ours=each, unit="events")
    yield Row("an append, in the middle", ours=median(appends) * 1000, unit="ms")
    needed = each * A_DAY / DAY_S
    yield Row(f"appends, {per_day}", "written here meanwhile", needed, len(appends) / took, unit="events/s")
    yield Row("store: a job", ours=size / 1000, unit="kB")
    for times in (1, TIMES):
        said = f"{A_DAY * times:,} jobs a day"
        yield Row(f"store: {said}, {DAYS} days", ours=size * A_DAY * DAYS * times / 1e9, unit="GB")
        line = (MODEL_BYTES + ADAPTER_BYTES) * A_DAY * times / DAY_S / MBIT
        yield Row(f"models that come home: {said}", ours=line, unit="Mbit/s")
        yield from _asked(day(lives, A_DAY * times), said)
    yield from _waited(home, empty, count)


def _asked(one: Day, said: str) -> Iterator[Row]:
    yield Row(f"instances at once: {said}", ours=float(max(one.alive)), unit="instances")
    for lane, minutes in sorted(one.calls.items(), key=lambda found: -sum(found[1])):
        if sum(minutes):
            limit = 60 / Pace().interval(lane)
            mean = sum(minutes) / len(minutes)
            yield Row(f"{lane}: {said}", "Vast's limit a minute", mean, limit, unit="calls")
            yield Row(
                f"{lane}: {said}, busiest minute", "Vast's limit a minute", float(max(minutes)), limit, unit="calls"
            )


def _waited(home: Path, empty: Path, count: int) -> Iterator[Row]:
    """What people, and the jobs themselves, wait for over the store of these lives, and over a month's."""
    month = A_DAY * DAYS
    for what, seconds in _known(home, count):
        yield Row(f"{what}: each job", ours=seconds * 1000, unit="CPU ms")
        yield Row(f"{what}: {month:,} jobs, reckoned", ours=seconds * month, unit="CPU s")
    newest = max((home / "jobs" / "job-00000" / "evidence").glob("training-*"), key=lambda path: path.stat().st_mtime)
    before = os.times()
    judge.judge(newest)
    spent = sum(os.times()[:4]) - sum(before[:4])
    yield Row("a judgement of a running training", ours=spent, unit="CPU s")
    running = typed(empty, "-c", "import harness.cli.run, harness.remote.host, harness.ledger.sql, vastai", rounds=1)
    yield Row("the process of a running job", ours=running.memory, unit="MiB")


def _known(home: Path, count: int) -> Iterator[tuple[str, float]]:
    ledger = Ledger(open_store(home / "state.db", SystemClock()), home / "jobs")
    begun = ledger.begun("job-00000")
    assert begun is not None
    job = begun[0]
    for what, ask in (
        ("what all jobs have rented (orphans, teardown)", lambda: ledger.known(job.provider)),
        ("earlier jobs like it (plan)", lambda: ledger.earlier(job)),
    ):
        began = time.process_time()
        ask()
        yield what, (time.process_time() - began) / count


if __name__ == "__main__":
    parser = table.parser(__doc__)
    parser.add_argument("--lives", type=int, default=60, help="jobs that are lived whole; 1000 is a day")
    parser.add_argument("--jobs", type=int, default=500, help="jobs of the store that the bars name")
    parser.add_argument("--events", type=int, default=200_000, help="events of that store")
    table.run(parser.parse_args(), rows)
