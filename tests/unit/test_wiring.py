"""A job's context as the command line opens it: what one process knows, and another has written meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.clock import SystemClock
from harness.core.errors import Conflict
from harness.ledger.events import Opened, Uploaded
from harness.ledger.sql import open_store
from harness.wiring import open_context
from tests.support.job_histories import job


def test_a_process_records_nothing_behind_what_it_has_not_read(tmp_path: Path) -> None:
    told = job()
    open_store(tmp_path / "state.db", SystemClock()).append(told.name, Opened(told.model_dump(mode="json"), "a.toml"))
    with open_context(told.name, home=tmp_path) as one, open_context(told.name, home=tmp_path) as other:
        assert len(one.history.records) == len(other.history.records) == 1
        one.record(Uploaded(1))
        with pytest.raises(Conflict):
            other.record(Uploaded(2))
        assert one.history.all(Uploaded) == other.history.all(Uploaded) == (Uploaded(1),)
        other.record(Uploaded(3))
