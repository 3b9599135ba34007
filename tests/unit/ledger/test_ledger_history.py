"""The fold of a job's log: each kind of event changes what it should, one at a time or all at once."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.ids import JobName
from harness.core.lifecycle import ORDER, Stage
from harness.core.verdict import Verdict
from harness.ledger.chain import Record, head_of, seal
from harness.ledger.codec import decode, encode
from harness.ledger.events import (
    Destroyed,
    DestroyIntended,
    DestroyRequested,
    GateJudged,
    Held,
    InstanceStarted,
    InstanceStopped,
    Launched,
    Opened,
    Released,
    RentFailed,
    RentIntended,
    Reopened,
    StageEntered,
)
from harness.ledger.history import extended, fold
from harness.ledger.jobs import Ledger
from harness.ledger.sql import open_store
from tests.support.fake_clock import FakeClock
from tests.support.job_histories import INSTANCE, LABEL, Log, check, events_of, gate, job, polled


def test_a_log_folded_at_once_or_event_by_event_tells_the_same() -> None:
    records = Log().closed().records
    history = fold(records[:1])
    for number, record in enumerate(records[1:], start=2):
        history = extended(history, record)
        assert history == fold(records[:number])


def test_the_stage_is_the_first_whose_gate_is_not_open() -> None:
    log = Log()
    assert log.history.stage is Stage.PREFLIGHT
    for stage, following in itertools.pairwise(ORDER):
        log.stage(stage)
        assert log.history.stage is following
    log.stage(Stage.TEARDOWN)
    assert log.history.stage is None


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.UNKNOWN])
def test_a_gate_that_shuts_again_is_shut(verdict: Verdict) -> None:
    log = Log().stage(Stage.PREFLIGHT).stage(Stage.PREFLIGHT, check(Stage.PREFLIGHT, "dataset_counts", verdict))
    assert log.history.stage is Stage.PREFLIGHT
    assert not log.history.passed(Stage.PREFLIGHT)


def test_a_poll_opens_nothing() -> None:
    log = Log().add(polled(gate(Stage.PREFLIGHT, job())))
    assert not log.history.gates


def test_an_instance_is_alive_from_its_rent_to_the_proof_that_it_is_gone() -> None:
    log = Log()
    assert log.history.alive is None
    log.verified()
    assert log.history.alive is not None
    assert log.history.alive.instance_id == INSTANCE
    log.add(DestroyIntended(instance_id=INSTANCE, release="cd" * 32))
    log.add(DestroyRequested(instance_id=INSTANCE, reply="accepted"))
    assert log.history.alive is not None, "a request is not the end"
    log.add(Destroyed(instance_id=INSTANCE, absence={}))
    assert log.history.alive is None


def test_every_label_that_was_ever_meant_is_kept() -> None:
    log = Log()
    for number in range(3):
        log.add(RentIntended(label=f"{LABEL}{number}", offer={"usd_per_hour": 1.0}, owner=7))
        log.add(RentFailed(label=f"{LABEL}{number}", why="gone"))
    history = log.history
    assert history.labels == tuple(f"{LABEL}{number}" for number in range(3))
    assert history.intended is None


def test_a_start_gives_the_training_its_time_anew() -> None:
    log = Log().rented().add(Launched((), "launch"))
    log.add(InstanceStopped(instance_id=INSTANCE, why="budget"), after=600)
    assert log.history.instance_stopped
    log.add(InstanceStarted(instance_id=INSTANCE), after=36_000)
    assert not log.history.instance_stopped
    assert log.history.launched_at == log.at


def test_a_start_before_any_launch_is_no_launch() -> None:
    assert Log().rented().add(InstanceStarted(instance_id=INSTANCE)).history.launched_at is None


def test_reopening_forgets_what_was_verified_and_released() -> None:
    log = Log().verified().add(Released(path="/r.json", sha256="cd" * 32))
    history = log.add(Reopened(stage=Stage.POSTDOWNLOAD, why="the file is gone")).history
    assert history.stage is Stage.POSTDOWNLOAD
    assert (history.verified, history.release_path, history.release_sha256) == (None, None, None)
    assert history.artifact is not None


def test_held_lasts_until_the_job_moves() -> None:
    log = Log().add(Held(stage=Stage.PREFLIGHT, error="GateHeld", reason="dataset_counts"))
    assert log.history.held is not None
    assert log.add(StageEntered(stage=Stage.PREFLIGHT)).history.held is None


def test_the_newest_configuration_counts_and_what_happened_stays() -> None:
    log = Log().rented()
    changed = job(limits={"budget_usd": 99.0})
    history = log.add(Opened(job=changed.model_dump(mode="json"), file="/x")).history
    assert history.job.limits.budget_usd == 99.0
    assert history.rental is not None


def test_a_field_that_a_later_version_dropped_is_read_over() -> None:
    data: dict[str, Any] = {**job().model_dump(mode="json"), "moon_phase": "full"}
    assert fold([seal(head_of([]), job().name, 1.0, "opened", {"job": data, "file": "/x"})]).job == job()


def test_an_unknown_kind_is_kept_and_changes_nothing() -> None:
    log = Log().rented()
    before = log.history
    after = log.stored("sang", {"what": "a song"}).history
    assert len(after.records) == len(before.records) + 1
    assert after.rental == before.rental


@pytest.mark.parametrize(
    ("records", "why"), [([], "empty"), (Log().stage(Stage.PREFLIGHT).records[1:], "does not begin with 'opened'")]
)
def test_a_log_without_a_beginning_is_refused(records: list[Record], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        fold(records)


def test_folding_ten_thousand_events_takes_no_time_to_speak_of() -> None:
    from timeit import default_timer

    log = Log()
    kind, data = encode(polled(gate(Stage.TRAINING, log.job)))
    first = log.records[0]
    many = [first, *(Record(n, first.job, 1.0, kind, data, "", "") for n in range(2, 10_001))]
    began = default_timer()
    assert len(fold(many).records) == 10_000
    assert default_timer() - began < 2.0


@pytest.mark.parametrize("until", ["rented", "trained", "fetched", "verified", "closed"])
def test_the_outline_of_a_log_tells_where_the_job_stands(until: str, tmp_path: Path) -> None:
    log: Log = getattr(Log(), until)()
    log.add(Held(Stage.UPLOAD, "GateHeld", "first")).add(Held(Stage.UPLOAD, "GateHeld", "second"))
    store = open_store(tmp_path / "state.db", FakeClock())
    for event in events_of(log.records):
        store.append(JobName(log.job.name), event)
    ledger = Ledger(store)
    assert ledger.rows(log.at) == [ledger.row(JobName(log.job.name), log.at)]


@pytest.mark.parametrize("said", ["assert 42 == 43", '}],"x":{},"stage":"install","verdict":"pass"}', '"result":{}'])
@pytest.mark.parametrize("tampered", [False, True])
def test_an_outline_does_without_what_a_check_said_and_is_told_of_no_log_where_that_was_changed(
    said: str, tampered: bool, tmp_path: Path
) -> None:
    log = Log()
    failed = check(Stage.PREFLIGHT, "dataset_counts", Verdict.FAIL, message=said)
    log.stage(Stage.PREFLIGHT, failed).stage(Stage.INSTALL)
    name, store = JobName(log.job.name), open_store(tmp_path / "state.db", FakeClock())
    for event in events_of(log.records):
        store.append(name, event)
    if tampered:
        with closing(sqlite3.connect(tmp_path / "state.db")) as database, database:
            database.execute(
                "update events set data = replace(data, '\"seconds\":0.5', '\"seconds\":0.6') where seq = 3"
            )
    outline = store.outlines()[name]
    if tampered:
        assert outline is None
        return
    assert outline is not None
    judged = [decode(record) for record in outline if record.kind == GateJudged.kind]
    whole = [decode(record) for record in store.records(name) if record.kind == GateJudged.kind]
    assert [replace(event, result={}) for event in whole if isinstance(event, GateJudged)] == judged
