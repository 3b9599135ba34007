"""A database that is not the store's own, not whole, or takes no writes: nothing is made in it, and it is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from harness.core.errors import StoreFailed
from harness.core.ids import JobName
from harness.ledger.events import Uploaded
from harness.ledger.sql import open_store
from tests.support.fake_clock import FakeClock
from tests.support.fleets import write_fleet
from tests.support.postgres import Cluster

JOB = JobName("forex")
PROGRAMS = {
    "tables of these names": ("CREATE TABLE events (id INTEGER, title TEXT)", "CREATE TABLE files (id INTEGER)"),
    "migrations of another kind": ("CREATE TABLE schema_version (installed_rank INTEGER, version VARCHAR(50))",),
    "migrations with a date": ("CREATE TABLE schema_version (version INTEGER, applied_at TEXT)",),
}
LOST = {
    "its events": ("DROP TABLE events", "events"),
    "its leases and heads": ("DROP TABLE leases; DROP TABLE heads", "heads, leases"),
}
REFUSED = {"42501": "own the database", "25006": "not a standby", "53100": "room on the server's disk", "55000": "runs"}


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.db'}"
    cluster: Cluster = request.getfixturevalue("postgres")
    return cluster.new_database()


def _do(place: str, *statements: str) -> set[str]:
    """Names of the tables that are there afterwards."""
    engine = sa.create_engine(place, poolclass=sa.pool.NullPool)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
        return set(sa.inspect(connection).get_table_names())


@pytest.mark.parametrize("program", PROGRAMS)
def test_another_programs_database_is_left_as_it_is(program: str, place: str) -> None:
    before = _do(place, *PROGRAMS[program])
    for _ in range(2):
        with pytest.raises(StoreFailed, match="is another program's") as failed:
            open_store(place, FakeClock())
    assert "an empty database" in failed.value.remedy
    assert _do(place) == before


def test_a_database_in_which_others_have_tables_of_other_names_will_do(place: str) -> None:
    _do(place, "CREATE TABLE event (id INTEGER)", "CREATE TABLE jobs (id INTEGER)")
    open_store(place, FakeClock()).append(JOB, Uploaded(1))
    assert len(open_store(place, FakeClock()).records(JOB)) == 1


@pytest.mark.parametrize("what", LOST)
def test_a_store_that_lacks_tables_is_named_and_not_begun_anew(what: str, place: str) -> None:
    """A dump that was restored in part: without its events every job would look as if it had never rented."""
    open_store(place, FakeClock()).append(JOB, Uploaded(1))
    statements, lost = LOST[what]
    left = _do(place, *statements.split("; "))
    with pytest.raises(StoreFailed, match=f"lacks the tables {lost}"):
        open_store(place, FakeClock())
    assert _do(place) == left


@pytest.mark.parametrize("state", REFUSED)
def test_a_server_that_takes_no_writes_says_what_helps(state: str, postgres: Cluster) -> None:
    place = postgres.new_database()
    store = open_store(place, FakeClock())
    _do(
        place,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '{state}'; END $$",
        "CREATE TRIGGER refuses BEFORE INSERT ON events EXECUTE FUNCTION refuse()",
    )
    with pytest.raises(StoreFailed, match="not now") as failed:
        store.append(JOB, Uploaded(1))
    assert REFUSED[state] in failed.value.remedy
    assert store.records(JOB) == ()


def test_a_role_that_may_not_make_tables_is_told_so_by_the_fleets_too(
    postgres: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.fleet.engine import open_engine
    from harness.fleet.file import load_fleet

    with postgres.connected() as connection:
        connection.exec_driver_sql("CREATE DATABASE of_the_superuser")
    place = postgres.url("of_the_superuser")
    monkeypatch.setenv("HARNESS_STATE", place)
    fleet = load_fleet(write_fleet(tmp_path, 1))
    with pytest.raises(StoreFailed, match="permission denied") as failed, open_engine(fleet, tmp_path):
        pass
    assert "the tables of the fleets in postgresql://" in str(failed.value)
    assert "own the database" in failed.value.remedy
    assert "s3cr3t" not in str(failed.value)
    with pytest.raises(StoreFailed, match="permission denied"):
        open_store(place, FakeClock())
