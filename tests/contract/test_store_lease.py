"""A job's lease: one driver at a time, and nothing from whoever drove it before."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import sqlalchemy as sa

from harness.core.clock import SystemClock
from harness.core.errors import HarnessError, JobBusy, LeaseLost, StoreFailed
from harness.core.ids import JobName
from harness.ledger import database
from harness.ledger.database import Database
from harness.ledger.events import Closed, Uploaded
from harness.ledger.locks import LEASE_S
from harness.ledger.sql import SqlEventStore, open_store
from tests.support.fake_clock import FakeClock
from tests.support.postgres import PASSWORD, Cluster

JOB, OTHER = JobName("forex"), JobName("another")


@pytest.fixture
def place(postgres: Cluster) -> str:
    return postgres.new_database()


@pytest.fixture
def first(place: str) -> SqlEventStore:
    return open_store(place, FakeClock())


@pytest.fixture
def second(place: str) -> SqlEventStore:
    return open_store(place, FakeClock())


def _let_it_end(store: SqlEventStore, job: JobName = JOB) -> None:
    """The holder is not heard from for longer than its lease."""
    aged = sa.text("update leases set until = until - :lease where job = :job and until > 0")
    with store.database.engine.begin() as connection:
        assert connection.execute(aged, {"lease": LEASE_S + 1, "job": job}).rowcount == 1


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_holder_has_a_greater_token(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    place = str(tmp_path / "state.db") if kind == "sqlite" else request.getfixturevalue("place")
    tokens = []
    for _ in range(3):
        with open_store(place, FakeClock()).leases.held(JOB) as lease:
            tokens.append(lease.token)
    assert tokens == [1, 2, 3]


def test_one_that_is_held_is_refused_with_its_holder_and_the_time_that_is_left(
    first: SqlEventStore, second: SqlEventStore
) -> None:
    with first.lock(JOB):
        with (
            pytest.raises(JobBusy, match=rf"being run by process {os.getpid()} on .+ ends in (60|59) s") as busy,
            second.lock(JOB),
        ):
            pass
        assert f"{LEASE_S:.0f} s after it was heard from last" in busy.value.remedy
        with second.lock(OTHER):
            pass
    with second.lock(JOB):
        pass


def test_whoever_was_not_heard_from_is_taken_over_from_and_changes_nothing(
    first: SqlEventStore, second: SqlEventStore
) -> None:
    with first.leases.held(JOB) as early:
        first.append(JOB, Uploaded(1))
        _let_it_end(first)
        with second.leases.held(JOB) as late:
            assert late.token > early.token
            second.append(JOB, Uploaded(2))
            for refused in (
                lambda: first.append(JOB, Uploaded(3)),
                lambda: first.append(JOB, Uploaded(3), expected_seq=2),
                lambda: first.require_lease(JOB),
            ):
                with pytest.raises(LeaseLost, match=rf"taken over by process {os.getpid()} on "):
                    refused()
            second.require_lease(JOB)
    assert len(second.records(JOB)) == 2
    with second.lock(JOB):
        pass  # the end of the first one's block gave nothing back that was not its own


def test_a_lease_that_is_gone_from_the_database_is_lost(first: SqlEventStore) -> None:
    """Restored from a backup of before it was taken: another machine may have the job, and nobody knows."""
    with first.leases.held(JOB):
        with first.database.engine.begin() as connection:
            connection.execute(sa.text("delete from leases"))
        with pytest.raises(LeaseLost):
            first.append(JOB, Uploaded(1))
        with pytest.raises(LeaseLost):
            first.require_lease(JOB)
    assert first.records(JOB) == ()


def test_one_that_was_given_back_is_not_renewed(first: SqlEventStore, second: SqlEventStore) -> None:
    """Its thread may ask once more while its holder gives it back: nobody is to wait a minute for that."""
    given = sa.text("update leases set until = 0")
    with first.leases.held(JOB):
        with first.database.engine.begin() as connection:
            connection.execute(given)
        first.require_lease(JOB)
        assert second.holder(JOB) is None


def test_the_end_of_an_old_holder_does_not_end_the_new_ones_lease(first: SqlEventStore, second: SqlEventStore) -> None:
    with first.lock(JOB):
        _let_it_end(first)
        taken = second.lock(JOB)
        taken.__enter__()
    assert second.holder(JOB) is not None
    second.append(JOB, Closed())
    taken.__exit__(None, None, None)
    assert second.holder(JOB) is None


def test_one_that_has_ended_is_renewed_as_long_as_nobody_else_took_it(first: SqlEventStore) -> None:
    with first.lock(JOB):
        _let_it_end(first)
        assert first.holder(JOB) is None
        first.require_lease(JOB)
        assert first.holder(JOB) is not None


def test_a_look_takes_nothing(first: SqlEventStore, second: SqlEventStore) -> None:
    assert second.holder(JOB) is None
    with first.lock(JOB):
        assert f"process {os.getpid()}" in str(second.holder(JOB))
        _let_it_end(first)
        assert second.holder(JOB) is None
        first.append(JOB, Closed())
    assert second.holder(JOB) is None


def test_without_a_lease_nothing_is_written_beside_its_holder(first: SqlEventStore, second: SqlEventStore) -> None:
    second.append(JOB, Uploaded(1))
    with first.lock(JOB):
        with pytest.raises(JobBusy, match="job forex is being run by"):
            second.append(JOB, Uploaded(2))
        with pytest.raises(JobBusy):
            second.require_lease(JOB)
        second.append(OTHER, Uploaded(2))
    second.append(JOB, Uploaded(2))
    assert len(first.records(JOB)) == 2


def test_a_recent_word_will_do_for_a_look_but_not_one_of_before_a_long_sleep(
    first: SqlEventStore, second: SqlEventStore
) -> None:
    clock = first.clock
    assert isinstance(clock, FakeClock)
    with first.lock(JOB):
        _let_it_end(first)
        with second.lock(JOB):
            first.require_lease(JOB, within_s=LEASE_S / 2)
            clock.turn(LEASE_S)  # by its own clock, too, it cannot know any more
            with pytest.raises(LeaseLost):
                first.require_lease(JOB, within_s=LEASE_S / 2)


def test_an_answer_that_came_late_is_asked_for_again(first: SqlEventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped while it asked: the database said yes, an hour ago."""
    clock, asked, real = first.clock, list[int](), Database.run
    assert isinstance(clock, FakeClock)

    def late(self: Database, *given: Any, **named: Any) -> Any:
        answer: Any = real(self, *given, **named)
        asked.append(1)
        if len(asked) == 1:
            clock.turn(3600)
        return answer

    with first.lock(JOB):
        monkeypatch.setattr(Database, "run", late)
        first.require_lease(JOB)
        assert len(asked) == 2
        monkeypatch.undo()


def test_the_lease_is_renewed_by_itself(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heard, asked = threading.Event(), threading.Event.wait

    def at_once(self: threading.Event, timeout: float | None = None) -> bool:
        return asked(self, 0.01 if timeout == LEASE_S / 4 else timeout)

    monkeypatch.setattr(threading.Event, "wait", at_once)
    store = open_store(place, FakeClock())
    watcher = open_store(place, FakeClock())
    with store.lock(JOB):
        _let_it_end(watcher)
        for _ in range(6000):
            if watcher.holder(JOB) is not None:
                break
            heard.wait(0.02)
        assert watcher.holder(JOB) is not None


def test_an_event_whose_commit_was_not_heard_of_is_there_once(
    first: SqlEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, lost = Database._begun, list[int]()

    @contextmanager
    def begun(self: Database, sole: str | None) -> Iterator[sa.Connection]:
        with real(self, sole) as connection:
            yield connection
        if sole is not None and not lost:
            lost.append(1)
            raise sa.exc.OperationalError("commit", {}, Exception("server closed the connection unexpectedly"))

    monkeypatch.setattr(Database, "_begun", begun)
    assert first.append(JOB, Uploaded(1)).seq == 1
    assert first.append(JOB, Uploaded(2)).seq == 2
    assert lost
    assert len(first.records(JOB)) == 2
    lost.clear()
    with first.leases.held(JOB) as lease:
        assert lease.token == 1


def test_a_server_that_is_restarted_is_waited_for(postgres: Cluster) -> None:
    store = open_store(postgres.new_database(), SystemClock())
    with store.lock(JOB):
        store.append(JOB, Uploaded(1))
        postgres.stop()
        back = threading.Timer(0.5, postgres.start)
        back.start()
        store.append(JOB, Uploaded(2))
        back.join(120)
        store.require_lease(JOB)
    assert [record.seq for record in store.records(JOB)] == [1, 2]
    assert store.verify(JOB) == ()


def test_a_server_that_stays_away_says_so(place: str, postgres: Cluster) -> None:
    store = open_store(place, FakeClock())
    postgres.stop()
    try:
        with pytest.raises(StoreFailed, match=r"the event store postgresql://harness@/store_\d+ cannot be used"):
            store.append(JOB, Uploaded(1))
        with pytest.raises(StoreFailed):
            open_store(place, FakeClock())
    finally:
        postgres.start()


def test_a_writer_that_is_stopped_in_the_middle_holds_nobody_up(
    first: SqlEventStore, second: SqlEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "'idle_in_transaction_session_timeout', '20s'" in str(database._SOLE_WRITER)
    monkeypatch.setattr(database, "_SOLE_WRITER", sa.text(str(database._SOLE_WRITER).replace("'20s'", "'200ms'")))
    with pytest.raises(sa.exc.SQLAlchemyError), first.database._begun(f"job {JOB}"):
        assert second.append(JOB, Uploaded(1)).seq == 1
    assert first.append(JOB, Uploaded(2)).seq == 2


def test_a_reader_beside_a_writer_sees_no_damage(first: SqlEventStore, second: SqlEventStore) -> None:
    done = threading.Event()

    def write() -> None:
        for number in range(60):
            first.append(JOB, Uploaded(number))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert second.verify(JOB) == ()
        assert None not in second.outlines().values()
    writer.join(120)
    assert len(second.records(JOB)) == 60


WRONG = {
    "another password": ("harness", "s3cr3t-and-wrong@/:%", None),
    "no such role": ("nobody", PASSWORD, None),
    "no such database": ("harness", PASSWORD, "nowhere"),
}


def _told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + str(getattr(error, "remedy", ""))


@pytest.mark.parametrize("case", WRONG)
def test_a_server_that_lets_nobody_in_tells_no_password(case: str, place: str, postgres: Cluster) -> None:
    role, password, name = WRONG[case]
    url = postgres.url(name or str(sa.make_url(place).database), role, password)
    with pytest.raises(StoreFailed, match="the event store postgresql://") as failed:
        open_store(url, FakeClock())
    assert password not in _told(failed.value)
    assert "s3cr3t" not in _told(failed.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:s3cr3t@nowhere.invalid/db",
        "postgresql://me:s3cr3t@nowhere.invalid/db",
        "postgres://me:s3cr3t@nowhere.invalid/db",
        "postgresql+psycopg://me@nowhere.invalid/db?password=s3cr3t",
        "postgresql+psycopg://me:s3cr3t@nowhere.invalid:99999/db",
        "postgresql+psycopg://me:s3cr3t@nowhere.invalid:s3cr3t/db",
        "postgresql+psycopg://me:pa@s3cr3t@nowhere.invalid/db",
        "postgresql+psycopg://me:pa/s3cr3t@nowhere.invalid/db",
        "postgresql+psycopg://me:pa@s3cr3t?x@nowhere.invalid/db",
        "postgresql+psycopg://me:pa@s3cr3t:5432?x@nowhere.invalid/db",
        "postgresql+psycopg://me:pa@s3cr3t#x@nowhere.invalid/db",
        "postgresql+psycopg://me:pa/x@s3cr3t/y@nowhere.invalid/db",
        "postgresql+psycopg://me:pa:s3cr3t@nowhere.invalid/db",
        "postgresql+psycopg://me:s3cr3t@nowhere.invalid/db?sslmode=none-such",
        "postgresql+asyncpg://me:s3cr3t@nowhere.invalid/db",
        "mysql://me:s3cr3t@nowhere.invalid/db",
        "nonsense://me:s3cr3t@nowhere.invalid/db",
    ],
)
def test_a_url_that_is_of_no_use_tells_no_password(url: str) -> None:
    with pytest.raises(HarnessError) as failed:
        open_store(url, FakeClock())
    assert "s3cr3t" not in _told(failed.value)


@pytest.mark.parametrize("spelt", [str, lambda one: quote(one, safe=""), quote_plus], ids=["plain", "quoted", "a form"])
@pytest.mark.parametrize("secret", [PASSWORD, "s3cr3t+of the key"], ids=["password", "sslpassword"])
def test_words_of_a_driver_that_repeat_a_secret_are_told_without_it(secret: str, spelt: Callable[[str], str]) -> None:
    own = quote(PASSWORD, safe="")
    url = f"postgresql://me:{own}@nowhere.invalid/db?sslpassword=s3cr3t%2Bof%20the%20key"
    said = Exception(f"cannot use conninfo '{spelt(secret)}' here")
    told = database.named(url, FakeClock()).failed(sa.exc.OperationalError("select 1", {}, said))
    assert "cannot use conninfo '***' here" in str(told)


def test_a_commit_waits_for_the_disk_where_the_server_does_not(place: str, postgres: Cluster) -> None:
    database_name = sa.make_url(place).database
    with postgres.connected() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {database_name} SET synchronous_commit = off")
    known = database.named(place, FakeClock())
    asked = sa.text("select current_setting('synchronous_commit')")
    assert known.run(lambda connection: connection.scalar(asked)) == "off"
    assert known.run(lambda connection: connection.scalar(asked), sole="a writer") == "on"


def test_a_file_that_cannot_be_used_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody restarts a file; a server is."""
    clock = FakeClock()
    known, began = database.named(tmp_path / "state.db", clock), clock.monotonic()
    with pytest.raises(StoreFailed, match="no such table"):
        known.run(lambda connection: connection.exec_driver_sql("select * from events"))
    assert clock.monotonic() == began


def test_a_store_shows_no_password(place: str) -> None:
    store = open_store(place, FakeClock())
    for shown in (repr(store), str(store.database), store.database.place, str(store.database.engine.url)):
        assert "s3cr3t" not in shown
