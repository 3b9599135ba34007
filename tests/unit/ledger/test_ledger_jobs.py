"""The job that is meant where none is named."""

from __future__ import annotations

import pytest

from harness.core.errors import BadInput
from harness.core.ids import JobName
from harness.ledger import jobs
from harness.ledger.events import Closed
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
