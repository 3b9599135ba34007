"""``harness log``: a job's own events, and whether they are all there as they were written."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.clock import SystemClock
from harness.core.ids import JobName
from harness.ledger.sql import open_store
from tests.support.job_histories import Log, events_of
from tests.support.postgres import Cluster
from tests.support.typing_commands import typing

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with one job of which something was rented."""
    home = tmp_path / "home"
    monkeypatch.setenv("HARNESS_HOME", str(home))
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    _write(str(home / "state.db"))
    return home


def _write(place: str) -> None:
    store = open_store(place, SystemClock())
    for event in events_of(Log().rented().records):
        store.append(JobName("night"), event)


@pytest.fixture
def ask(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Types a command; exit code, standard output, standard error."""
    del home
    return typing(monkeypatch, capsys)


@pytest.mark.parametrize("words", [["log", "night"], ["log"]], ids=" ".join)
def test_the_events_are_shown_and_their_chain_is_verified(words: list[str], ask: Ask, home: Path) -> None:
    code, out, _ = ask(*words)
    assert code == 0
    records = open_store(home / "state.db", SystemClock()).records(JobName("night"))
    for record in records:
        assert f"{record.seq:>5}  20" in out
        assert record.kind in out
    assert "chain is whole" in " ".join(out.split())
    assert records[-1].digest in "".join(out.split())


def test_every_event_is_shown_whole_as_json(ask: Ask, home: Path) -> None:
    code, out, _ = ask("log", "night", "--json")
    assert code == 0
    told = [json.loads(line) for line in out.splitlines()]
    records = open_store(home / "state.db", SystemClock()).records(JobName("night"))
    assert [(one["seq"], one["kind"], one["data"], one["digest"]) for one in told] == [
        (record.seq, record.kind, record.data, record.digest) for record in records
    ]


def test_a_changed_event_is_named_with_the_code_of_a_damaged_store(ask: Ask, home: Path) -> None:
    connection = sqlite3.connect(home / "state.db")
    with connection:
        connection.execute('update events set data = \'{"stage": "launch"}\' where seq = 2')
    connection.close()
    code, out, told = ask("log", "night")
    assert code == 10
    assert "event 2 (stage) was changed after it was written" in " ".join((out + told).split())


def test_no_such_job_is_a_bad_input(ask: Ask) -> None:
    code, _, told = ask("log", "day")
    assert code == 2
    assert "there is no job 'day'" in told


def test_the_store_that_a_url_names_is_the_one_that_is_shown(
    ask: Ask, postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.new_database()
    monkeypatch.setenv("HARNESS_STATE", url)
    assert ask("log", "night")[0] == 2
    _write(url)
    code, out, _ = ask("log", "night")
    assert code == 0
    assert "rent_intended" in out


@pytest.mark.parametrize(
    "url",
    [
        "state.db",
        "sqlite:///state.db",
        "sqlite:///",
        "mysql://me:s3cr3t@host/db",
        "postgresql+psycopg://me:s3cr3t@h:pw/db",
    ],
)
def test_a_url_of_no_use_is_a_bad_input_and_tells_no_password(
    url: str, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_STATE", url)
    code, out, told = ask("log", "night")
    assert code == 2
    assert "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE" in " ".join(told.split())
    assert "s3cr3t" not in out + told
