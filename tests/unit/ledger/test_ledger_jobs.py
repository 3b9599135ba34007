"""The job that is meant where none is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.core.errors import BadInput, LogDamaged
from harness.core.ids import InstanceId, JobName, label
from harness.ledger import jobs
from harness.ledger.events import Closed
from harness.ledger.remembered import remembered
from tests.support.context import MemoryStore
from tests.support.fake_clock import FakeClock


@pytest.mark.parametrize("stores", [1, 2])
def test_where_no_job_was_run_none_is_meant(stores: int) -> None:
    for choose in (jobs.latest, jobs.sole):
        with pytest.raises(BadInput, match="no job has been run yet"):
            choose(*(MemoryStore(FakeClock()) for _ in range(stores)))


def test_the_first_store_that_has_jobs_tells_which_moved_last() -> None:
    clock = FakeClock()
    empty, own, other = MemoryStore(clock), MemoryStore(clock), MemoryStore(clock)
    for store, name in ((own, "early"), (own, "late"), (own, "early"), (other, "another")):
        clock.sleep(1.0)
        store.append(JobName(name), Closed())
    assert jobs.latest(empty, own, other) == "early"
    assert jobs.latest(empty, other, own) == "another"
    with pytest.raises(BadInput, match="There are another, early, late"):
        jobs.sole(own, other)


@pytest.mark.parametrize("error", [ValueError("odd"), KeyError("odd"), TypeError("odd")])
def test_a_log_that_amounts_to_no_history_is_damaged(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its events hold, for a person it is one thing; in a list it spoils no other job's row."""

    def fold(_: object) -> None:
        raise error

    store = MemoryStore(FakeClock())
    store.append(JobName("odd"), Closed())
    monkeypatch.setattr(jobs, "fold", fold)
    with pytest.raises(LogDamaged, match="of job odd does not read"):
        jobs.folded(JobName("odd"), store.records(JobName("odd")))
    (row,) = jobs.Ledger(store).rows(0.0)
    assert "of job odd does not read" in str(row["unreadable"])


def test_of_the_evidence_in_a_folder_only_what_reads_is_told(tmp_path: Path) -> None:
    facts = {
        "instance": {"value": {"id": 7, "label": label(JobName("night"), "0123abcd")}},
        "offer": {"value": {"usd_per_hour": 2.0}},
    }
    evidence = tmp_path / "evidence"
    (evidence / "provision-0.json").mkdir(parents=True)
    for number, text in enumerate(("{", "[]", "{}", "\x00", '{"a":' + "[" * 3000, json.dumps({"facts": facts})), 1):
        (evidence / f"provision-{number}.json").write_text(text, "utf-8")
    assert [one.instance_id for one in remembered(tmp_path, JobName("night"))] == [InstanceId(7)]
