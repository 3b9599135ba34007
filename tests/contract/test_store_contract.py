"""What every event store must do; real processes where it says processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.core.clock import SystemClock
from harness.core.errors import Conflict, JobBusy, StoreFailed
from harness.core.ids import InstanceId, JobName
from harness.ledger.chain import GENESIS
from harness.ledger.codec import decode
from harness.ledger.events import CheckpointMirrored, Closed, DestroyIntended, Opened, Uploaded
from harness.ledger.sql import open_store
from harness.ledger.store import EventStore
from tests.support.fake_clock import FakeClock

JOB, OTHER = JobName("forex"), JobName("another")
Open = Callable[[], EventStore]


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that nobody has opened: its path or URL."""
    if request.param == "sqlite":
        return str(tmp_path / "events.db")
    return str(request.getfixturevalue("postgres").new_database())


@pytest.fixture
def open_it(place: str) -> Open:
    """Opens the same store again and again, as another process would."""
    return lambda: open_store(place, FakeClock())


@pytest.fixture
def store(open_it: Open) -> EventStore:
    return open_it()


def test_what_was_appended_is_there_after_opening_again(open_it: Open) -> None:
    data = {"text": "é \ud800 \x00", "n": 1, "f": 1.5, "none": None, "list": [1, [2.0]], "map": {"a": True}}
    first = open_it().append(JOB, Opened(data, "job.toml"))
    second = open_it().append(JOB, Closed())
    assert open_it().records(JOB) == (first, second)
    assert (first.seq, first.previous, first.data) == (1, GENESIS, {"job": data, "file": "job.toml"})
    assert (second.seq, second.previous) == (2, first.digest)
    assert first.at == FakeClock().now()


def test_jobs_do_not_see_each_other(store: EventStore) -> None:
    store.append(JOB, Uploaded(1))
    store.append(OTHER, Uploaded(2))
    assert [decode(record) for record in store.records(JOB)] == [Uploaded(1)]
    assert store.jobs() == (OTHER, JOB)


def test_a_job_that_never_was_has_no_events_and_nothing_wrong(store: EventStore) -> None:
    assert store.records(JOB) == ()
    assert store.verify(JOB) == ()
    assert store.jobs() == ()


def test_a_writer_that_knows_the_newest_event_may_append(store: EventStore) -> None:
    store.append(JOB, Uploaded(1), expected_seq=0)
    assert store.append(JOB, Uploaded(2), expected_seq=1).seq == 2


@pytest.mark.parametrize("expected", [0, 1, 3])
def test_a_writer_that_does_not_is_refused_and_appends_nothing(expected: int, store: EventStore) -> None:
    store.append(JOB, Uploaded(1))
    store.append(JOB, Uploaded(2))
    with pytest.raises(Conflict, match=rf"event {expected} was expected to be the newest, but 2 is"):
        store.append(JOB, Uploaded(3), expected_seq=expected)
    assert len(store.records(JOB)) == 2
    assert store.verify(JOB) == ()


@pytest.mark.parametrize("data", [{"x": float("nan")}, {"x": object()}, {"x": b""}, {1: 2}, {"x": "y" * (5 << 20)}])
def test_data_that_cannot_be_kept_is_refused_and_appends_nothing(data: Any, store: EventStore) -> None:
    with pytest.raises(StoreFailed):
        store.append(JOB, Opened(data, "job.toml"))
    assert store.records(JOB) == ()


@pytest.mark.parametrize("files", ["three", None, True, 3.0])
def test_an_event_that_could_not_be_read_again_is_refused_and_appends_nothing(files: Any, store: EventStore) -> None:
    with pytest.raises(StoreFailed, match=r"event 1 \(uploaded\): files is .*, not int, in job forex"):
        store.append(JOB, Uploaded(files))
    assert store.records(JOB) == ()


def _append_many(place: str, count: int) -> None:
    store = open_store(place, SystemClock())
    for number in range(count):
        store.append(JOB, CheckpointMirrored(str(os.getpid()), number))


def test_processes_that_append_at_once_make_one_chain(place: str) -> None:
    each = 15
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_many, args=(place, each), daemon=True) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    store = open_store(place, SystemClock())
    assert store.verify(JOB) == ()
    assert [event.seq for event in store.records(JOB)] == list(range(1, 3 * each + 1))


def _race(place: str, barrier: object, won: object) -> None:
    store = open_store(place, SystemClock())
    barrier.wait(120)  # type: ignore[attr-defined]  # a multiprocessing proxy
    with contextlib.suppress(Conflict):
        store.append(JOB, DestroyIntended(InstanceId(4711), None), expected_seq=0)
        won.put(os.getpid())  # type: ignore[attr-defined]  # a multiprocessing queue


def test_of_processes_that_take_the_same_step_one_wins(place: str) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, won = context.Barrier(3), context.Queue()
    racers = [context.Process(target=_race, args=(place, barrier, won), daemon=True) for _ in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(120)
    winner = won.get(timeout=10)
    won.close()
    assert [racer.exitcode for racer in racers] == [0, 0, 0]
    assert winner in {racer.pid for racer in racers}
    assert len(open_store(place, SystemClock()).records(JOB)) == 1


APPEND_AND_TELL = """
import sys
from harness.core.clock import SystemClock
from harness.ledger.events import Opened
from harness.ledger.sql import open_store
store = open_store(sys.argv[1], SystemClock())
while True:
    print(store.append("forex", Opened({"padding": "x" * 5000}, "job.toml")).seq, flush=True)
"""


@pytest.mark.parametrize("events_first", [1, 3, 7, 20])
def test_what_was_told_to_be_appended_survives_a_kill(events_first: int, place: str) -> None:
    with subprocess.Popen([sys.executable, "-c", APPEND_AND_TELL, place], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(events_first):
            writer.stdout.readline()
        writer.kill()
        told = events_first + len(writer.stdout.read().splitlines())
    store = open_store(place, SystemClock())
    assert store.verify(JOB) == ()
    assert told <= len(store.records(JOB)) <= told + 1


HOLD = """
import sys, time
from harness.core.clock import SystemClock
from harness.ledger.sql import open_store
with open_store(sys.argv[1], SystemClock()).lock("forex"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_job_is_held_by_one_process_and_free_when_it_is_killed(tmp_path: Path) -> None:
    store = open_store(tmp_path / "events.db", SystemClock())
    command = [sys.executable, "-c", HOLD, str(tmp_path / "events.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == b"held"
        with pytest.raises(JobBusy, match=rf"job forex is being run by process {holder.pid} on "), store.lock(JOB):
            pass
        with store.lock(OTHER):
            pass
        os.kill(holder.pid, signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
    with store.lock(JOB):
        pass


def test_a_job_is_held_once_within_a_process_too_and_freed_by_an_error(store: EventStore) -> None:
    with contextlib.suppress(ZeroDivisionError), store.lock(JOB):
        with pytest.raises(JobBusy, match=str(os.getpid())), store.lock(JOB):
            pass
        raise ZeroDivisionError
    with store.lock(JOB):
        pass
