"""The short ways to read a store tell what the long one does, and refuse what it refuses."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.core.canonical import canonical
from harness.core.ids import InstanceId, JobName
from harness.core.lifecycle import Stage
from harness.ledger import account, billing, chain, ownership, rows
from harness.ledger.bills import Billing, bills
from harness.ledger.chain import Record
from harness.ledger.events import Abandoned, Held, Launched, Polled, RentFailed, RentIntended
from harness.ledger.history import History, fold
from harness.ledger.jobs import Ledger, folded, latest
from harness.ledger.outlook import outlook
from harness.ledger.schema import OF_A_STAGE
from harness.ledger.sql import SqlEventStore, open_store
from harness.ledger.two_clocks import TwoClocks
from tests.support.fake_clock import FakeClock
from tests.support.job_histories import BEGAN, KINDS, LABEL, Log, any_of, gate, polled

NAME = JobName("night")
LATER = BEGAN + 86_400.0
UNHURRIED = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@pytest.fixture
def store(tmp_path: Path) -> SqlEventStore:
    return open_store(tmp_path / "state.db", FakeClock())


def put(store: SqlEventStore, records: Iterable[Record], *, head: chain.Head | None = None) -> None:
    """Have these records alone in the store, past its own door, which waits for the disk at every event."""
    log = tuple(records)
    with closing(sqlite3.connect(store.database.place)) as database, database:
        database.execute("delete from events")
        database.execute("delete from heads")
        for one in log:
            stage = one.data.get("stage") if one.kind in OF_A_STAGE else None
            stored = canonical(one.data).decode()
            values = (one.job, one.seq, one.at, one.kind, stored, one.previous, one.digest, stage)
            database.execute("insert into events values (?, ?, ?, ?, ?, ?, ?, ?)", values)
        newest = head or chain.head_of(log)
        database.execute("insert into heads values (?, ?, ?)", (log[0].job, newest.seq, newest.digest))


def told(history: History) -> tuple[object, ...]:
    """Everything that is asked of an outline: its row, and what the limits on all jobs count."""
    return (
        rows.row(history, LATER),
        bills(history),
        outlook(history, LATER),
        billing.paid_spans(history.records, LATER),
        account.spending([history], {}, TwoClocks.told(None, LATER)),
        (history.alive, history.unresolved, history.in_doubt, history.labels, history.closed, history.instance_stopped),
    )


def known(histories: Iterable[History]) -> ownership.Known:
    (history,) = histories
    return ownership.known([history], history.job.provider)


@pytest.mark.parametrize("until", ["rented", "trained", "fetched", "verified", "closed"])
@pytest.mark.parametrize("again", [False, True])
def test_of_a_recorded_job_the_short_ways_tell_the_same(until: str, again: bool, store: SqlEventStore) -> None:
    log: Log = getattr(Log(), until)()
    if again:  # given up, and rented anew without an outcome
        log.add(Abandoned(InstanceId(4711), {}, {})).add(RentIntended("gsh-night-ffffffff", {}, 7))
    put(store, log.records)
    whole = folded(NAME, store.records(NAME))
    (outlined,) = Ledger(store).outlined()
    assert told(outlined) == told(whole)
    assert known(Ledger(store).read()[0].values()) == known([whole])


@UNHURRIED
@given(st.lists(st.one_of(*map(any_of, KINDS)), max_size=24))
def test_of_any_events_the_short_ways_tell_the_same(store: SqlEventStore, events: list[object]) -> None:
    log = Log()
    for event in events:
        log.add(event)  # type: ignore[arg-type]  # any_of draws events
    try:
        fold(log.records)
    except (ValueError, KeyError, TypeError):
        return
    put(store, log.records)
    whole = folded(NAME, store.records(NAME))
    (outlined,) = Ledger(store).outlined()
    assert told(outlined) == told(whole)
    assert known(Ledger(store).read()[0].values()) == known([whole])


def damages(log: Log) -> Iterator[tuple[str, str]]:
    for record in log.records:
        at = f"where seq = {record.seq}"
        yield f"{record.seq} changed", f"update events set data = replace(data, ':', ': ') {at}"
        yield f"{record.seq} left out", f"delete from events {at}"
        yield f"{record.seq} of another time", f"update events set at = at + 1 {at}"
        yield f"{record.seq} of another kind", f"update events set kind = 'uploaded' {at}"
        yield f"{record.seq} of another digest", f"update events set digest = '{'0' * 64}' {at}"
        yield f"{record.seq} no JSON", f"update events set data = substr(data, 2) {at}"


def trained() -> Log:
    """A job that was rented and looked at while it trained: what a check said is in the middle of its log."""
    log = Log().rented().add(Launched(("python3", "train.py"), "launch"))
    for _ in range(3):
        log.add(polled(gate(Stage.TRAINING, log.job)))
    return log


@pytest.mark.parametrize("damage", [one for _, one in damages(trained())], ids=[one for one, _ in damages(trained())])
def test_what_all_jobs_had_is_not_told_from_a_log_that_was_damaged_anywhere(damage: str, store: SqlEventStore) -> None:
    put(store, trained().records)
    assert Ledger(store).read()[1] == {}
    with closing(sqlite3.connect(store.database.place)) as database, database:
        database.execute(damage)
    histories, unreadable = Ledger(store).read()
    assert (list(histories), list(unreadable)) == ([], [NAME])
    assert store.verify(NAME)


def test_what_a_check_said_is_verified_though_it_is_not_read(store: SqlEventStore) -> None:
    put(store, trained().records)
    polls = [one for one in store.records(NAME, brief=True) if one.kind == Polled.kind]
    assert [one.data["result"] for one in polls] == [{}] * 3
    with closing(sqlite3.connect(store.database.place)) as database, database:
        database.execute("update events set data = replace(data, '\"seconds\":0.5', '\"seconds\":0.6') where seq = 9")
    assert list(Ledger(store).read()[1]) == [NAME]


def test_a_log_whose_links_do_not_hold_is_not_told_though_each_event_is_sealed(store: SqlEventStore) -> None:
    records = trained().records
    alone = chain.seal(chain.Head(8, "0" * 64), NAME, records[8].at, records[8].kind, records[8].data)
    put(store, [*records[:8], alone, *records[9:]])
    assert list(Ledger(store).read()[1]) == [NAME]
    assert store.verify(NAME) == (
        "event 9 (poll) does not follow event 8: one of them was replaced",
        "event 10 (poll) does not follow event 9: one of them was replaced",
    )


def test_a_sealed_event_that_does_not_decode_is_refused_by_the_short_way_too(store: SqlEventStore) -> None:
    log = trained().stored(Polled.kind, {"stage": "training"}).add(Held(Stage.TRAINING, "GateHeld", "why"))
    put(store, log.records)
    assert list(Ledger(store).read()[1]) == [NAME]


def test_an_instance_that_was_given_up_is_remembered_behind_a_later_rent(tmp_path: Path) -> None:
    """Its label is the job's, although another rent was begun since and has failed: nothing is forgotten."""
    store = open_store(tmp_path / "state.db", FakeClock())
    log = Log().rented().add(Abandoned(InstanceId(4711), {}, {}))
    log.add(RentIntended("gsh-night-ffffffff", {}, 7)).add(RentFailed("gsh-night-ffffffff", "sold"))
    put(store, log.records)
    evidence = tmp_path / "jobs" / NAME / "evidence" / "provision-1.json"
    evidence.parent.mkdir(parents=True)
    instance, offer = {"value": {"id": 4711, "label": LABEL}}, {"value": {"usd_per_hour": 16.0}}
    evidence.write_text(json.dumps({"facts": {"instance": instance, "offer": offer}}), encoding="utf-8")
    ledger = Ledger(store, tmp_path / "jobs")
    (row,) = ledger.rows(LATER)
    assert row == ledger.row(NAME, LATER)
    assert row["bills"]["state"] == Billing.NOTHING  # type: ignore[index,call-overload]  # it is an object


def test_the_job_that_moved_last_is_told_by_its_newest_event(store: SqlEventStore) -> None:
    put(store, trained().records)
    assert latest(store) == NAME
