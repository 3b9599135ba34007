from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from harness.core.errors import BadInput, JobBusy, StoreFailed
from harness.core.ids import JobName
from harness.ledger import database, schema
from harness.ledger.codec import decode
from harness.ledger.events import Closed, Opened, Uploaded
from harness.ledger.schema import VERSION
from harness.ledger.sql import SqlEventStore, open_store
from tests.support.fake_clock import FakeClock

JOB = JobName("forex")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "events.db"


@pytest.fixture
def store(path: Path) -> SqlEventStore:
    store = open_store(path, FakeClock())
    for number in range(4):
        store.append(JOB, Uploaded(number))
    return store


def tamper(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "update events set data = '{\"files\":9}' where seq = 4",
        "update events set kind = 'closed' where seq = 4",
        "delete from events where seq = 2",
        "delete from events where seq = 4",
        "delete from events",
        "delete from heads",
        "update heads set digest = 'x'",
        "update events set data = 'not json' where seq = 4",
        "update events set at = 'soon' where seq = 1",
        pytest.param(f"update events set data = '{'[' * 100_000}' where seq = 4", id="nested too deep"),
        "update events set data = x'00ff' where seq = 4",
    ],
)
def test_an_outline_of_a_log_that_was_tampered_with_is_not_told(
    statement: str, store: SqlEventStore, path: Path
) -> None:
    assert store.outlines() == {JOB: (store.records(JOB)[0], store.records(JOB)[3])}
    tamper(path, statement)
    assert store.outlines().get(JOB) is None


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (
            "update events set data = '{\"files\":9}' where seq = 2",
            "event 2 (uploaded) was changed after it was written",
        ),
        ("update events set kind = 'closed' where seq = 3", "event 3 (closed) was changed after it was written"),
        ("update events set at = at + 1 where seq = 1", "event 1 (uploaded) was changed after it was written"),
        ("delete from events where seq = 2", "event 2 missing"),
        ("delete from events where seq > 2", "events 3-4 missing: the log was cut off"),
        ("delete from events", "events 1-4 missing: the log was cut off"),
        ("delete from heads", "events 1-4 added behind the log's back"),
        ("update heads set digest = 'x'", "event 4 is not the one that the log's head names"),
        ("update events set data = 'not json' where seq = 2", "event 2 cannot be read: "),
        ("update events set data = '[]' where seq = 2", "event 2 cannot be read: "),
        ("update events set data = x'00ff' where seq = 2", "event 2 cannot be read: "),
        ("update events set at = 'soon' where seq = 2", "event 2 cannot be read: "),
        pytest.param(
            f"update events set data = '{'[' * 100_000}' where seq = 2",
            "event 2 cannot be read: ",
            id="nested too deep",
        ),
    ],
)
def test_a_log_that_was_tampered_with_is_not_used(statement: str, named: str, store: SqlEventStore, path: Path) -> None:
    tamper(path, statement)
    assert any(problem.startswith(named) for problem in store.verify(JOB)), store.verify(JOB)
    for brief in (False, True):
        with pytest.raises(StoreFailed, match="the log of job forex"):
            store.records(JOB, brief=brief)
    assert store.jobs() == (JOB,)


def test_commits_reach_the_disk_with_their_directory(store: SqlEventStore) -> None:
    with store.database.engine.connect() as connection:
        assert connection.scalar(sa.text("pragma journal_mode")) == "delete"
        assert connection.scalar(sa.text("pragma synchronous")) == 3  # EXTRA
        assert connection.scalar(sa.text("pragma busy_timeout")) == 30_000


def test_the_store_is_one_file_at_rest(store: SqlEventStore, path: Path) -> None:
    assert store.database.path == path
    assert [entry.name for entry in path.parent.iterdir()] == ["events.db"]


@pytest.mark.parametrize("version", [VERSION + 1, 0])
def test_another_schema_is_not_touched(version: int, store: SqlEventStore, path: Path) -> None:
    del store
    tamper(path, f"update schema_version set version = {version}")
    before = path.read_bytes()
    with pytest.raises(StoreFailed, match=f"has schema version {version}; this harness knows version {VERSION}"):
        open_store(path, FakeClock())
    assert path.read_bytes() == before


def test_what_is_not_a_database_is_not_touched(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, but something that matters to somebody\n" * 100)
    with pytest.raises(StoreFailed, match="file is not a database") as failed:
        open_store(path, FakeClock())
    assert "Without one, move it away" in failed.value.remedy
    assert path.read_bytes().startswith(b"not a database")


def test_a_damaged_database_says_so(store: SqlEventStore, path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    with pytest.raises(StoreFailed, match="cannot be used"):
        store.records(JOB)


def test_a_state_directory_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreFailed, match="cannot create"):
        open_store(tmp_path / "file" / "state" / "events.db", FakeClock())


def test_a_directory_in_place_of_the_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="unable to open database file"):
        open_store(tmp_path, FakeClock())


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_state_directory_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreFailed, match="cannot be used"):
        open_store(tmp_path / "events.db", FakeClock())


def test_a_full_disk_says_so_and_appends_nothing(store: SqlEventStore, path: Path) -> None:
    @sa.event.listens_for(store.database.engine, "connect")
    def fill(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("pragma max_page_count = 6")

    with pytest.raises(StoreFailed, match="full"):
        store.append(JOB, Opened({"x": "y" * 100_000}, "job.toml"))
    assert len(open_store(path, FakeClock()).records(JOB)) == 4


def test_a_writer_that_never_ends_is_not_waited_for_for_ever(store: SqlEventStore, path: Path) -> None:
    @sa.event.listens_for(store.database.engine, "connect")
    def hurry(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("pragma busy_timeout = 50")

    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("begin immediate")
    with pytest.raises(StoreFailed, match="locked"):
        store.append(JOB, Closed())
    assert len(store.records(JOB)) == 4  # reading goes on
    blocker.execute("rollback")
    blocker.close()
    assert store.append(JOB, Closed()).seq == 5


def test_a_url_names_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "with space.db"
    store = open_store(f"sqlite:///{path}", FakeClock())
    assert store.database.path == path
    assert open_store(str(path), FakeClock()).database.path == path


def test_what_a_servers_url_says_of_the_connection_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    real = sa.create_engine

    def create(url: sa.URL, **settings: Any) -> sa.Engine:
        asked.append(settings["connect_args"])
        return real(url, **settings)

    monkeypatch.setattr(sa, "create_engine", create)
    database.named("postgresql://me@db/x?connect_timeout=3&application_name=mine", FakeClock())
    assert not {"connect_timeout", "application_name"} & asked[0].keys()
    assert {"keepalives_idle", "keepalives_count", "tcp_user_timeout"} <= asked[0].keys()


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "mysql://me:secret@db/x", "oracle://x", "://", "nonsense://"]
)
def test_other_databases_are_refused_without_showing_a_password(url: str) -> None:
    with pytest.raises(BadInput) as caught:
        open_store(url, FakeClock())
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("holder", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1, "host": "h\\u001b[2J"}'])
def test_a_holder_that_cannot_be_read_is_just_another_process(holder: str, store: SqlEventStore) -> None:
    with store.lock(JOB):
        (file,) = Path(store.database.place).with_name("events.db.locks").glob("*.holder.json")
        file.write_text(holder)
        with pytest.raises(JobBusy, match="is being run by") as caught, store.lock(JOB):
            pass
        assert str(caught.value).isprintable()


def test_a_lock_directory_in_the_way_says_so(store: SqlEventStore) -> None:
    Path(store.database.place).with_name("events.db.locks").write_text("in the way")
    with pytest.raises(StoreFailed, match="cannot lock job-forex"), store.lock(JOB):
        pass


OLD = Path(__file__).parents[2] / "contract" / "data" / "store-schema-1.sql"
"""A store with two jobs, as the last version before schema 2 wrote it."""


@pytest.fixture
def old(path: Path) -> Path:
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.executescript(OLD.read_text(encoding="utf-8"))
    connection.close()
    return path


def _version(path: Path) -> list[tuple[int]]:
    connection = sqlite3.connect(path)
    found = connection.execute("select version from schema_version").fetchall()
    connection.close()
    return found


def test_an_older_store_is_brought_up_to_date_by_opening_it(old: Path, tmp_path: Path) -> None:
    assert _version(old) == [(1,)]
    store = open_store(old, FakeClock())
    assert _version(old) == [(VERSION,)]
    assert store.jobs() == ("day", "night")
    anew = open_store(tmp_path / "anew.db", FakeClock())
    for job in store.jobs():
        assert store.verify(job) == ()
        for record in store.records(job):
            event = decode(record)
            assert event is not None
            anew.append(job, event)
    places = {job: [record.seq for record in records or ()] for job, records in store.outlines().items()}
    assert places == {job: [record.seq for record in records or ()] for job, records in anew.outlines().items()}
    assert len(places[JobName("night")]) == 13
    with store.leases.held(JobName("night")) as lease:
        assert lease.token == 1
        store.append(JobName("night"), Closed())
    assert open_store(old, FakeClock()).records(JobName("night"))[-1].kind == "closed"


def test_a_migration_that_is_cut_off_leaves_the_store_as_it_was(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_given: object, **_named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(schema.METADATA, "create_all", cut)
        with pytest.raises(KeyboardInterrupt):
            open_store(old, FakeClock())
    assert _version(old) == [(1,)]
    assert open_store(old, FakeClock()).verify(JobName("night")) == ()


@pytest.mark.parametrize("changed", ["update events set data = 'not json' where kind = 'gate'", "delete from heads"])
def test_a_damaged_older_store_says_what_is_damaged_after_the_migration(changed: str, old: Path) -> None:
    tamper(old, changed)
    store = open_store(old, FakeClock())
    assert store.verify(JobName("night"))
    assert store.outlines()[JobName("night")] is None
