"""A job's context as the command line opens it: what one process knows, and another has written meanwhile."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.clock import SystemClock
from harness.core.errors import Conflict, HostUnreachable, ProviderUnavailable
from harness.core.ids import InstanceId, JobName
from harness.ledger.events import Opened, Uploaded
from harness.ledger.sql import open_store
from harness.remote.host import SshHost
from harness.remote.ssh.keys import generate_keypair
from harness.wiring import OpenContext, open_context
from tests.support import facts
from tests.support.fake_clock import FakeClock
from tests.support.job_histories import Log, events_of, job


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


def test_a_box_is_told_once_of_each_key_that_this_machine_has(tmp_path: Path) -> None:
    log, told = Log().rented(), list[str]()
    provider = SimpleNamespace(
        instance=lambda _id: facts.instance(), attach_key=lambda _id, public_key: told.append(public_key)
    )
    store, name = open_store(tmp_path / "state.db", FakeClock()), JobName(log.job.name)
    for event in events_of(log.records):
        store.append(name, event)

    def reach(home: Path) -> str:
        context = OpenContext(name, home, store, FakeClock(), lambda *_: provider)
        context.fresh_host().close()
        return context.public_key

    first, second = tmp_path / "first", tmp_path / "second"
    (second / "ssh").mkdir(parents=True)
    older = generate_keypair(second / "ssh" / "id_ed25519")  # of a job that this machine rented before
    os.utime(second / "ssh" / "id_ed25519", (0, 0))
    assert [reach(first), reach(second)] == told
    assert told[1] == older
    reach(first)
    reach(second)
    assert len(told) == 2
    (second / "ssh" / "id_ed25519").unlink()
    assert reach(second) == told[2] != older


@pytest.mark.parametrize("lets_in", [True, False])
def test_where_no_key_can_be_attached_one_that_was_put_there_by_hand_will_do(
    lets_in: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, asked = Log().rented(), list[str]()

    def attach(_id: InstanceId, public_key: str) -> None:
        asked.append(public_key)
        raise ProviderUnavailable("a pod takes none later")

    def run(*_given: Any, **_named: Any) -> None:
        if not lets_in:
            raise HostUnreachable("Authentication failed")

    monkeypatch.setattr(SshHost, "run", run)
    provider = SimpleNamespace(instance=lambda _id: facts.instance(), attach_key=attach)
    store = open_store(tmp_path / "state.db", FakeClock())
    for event in events_of(log.records):
        store.append(JobName(log.job.name), event)
    context = OpenContext(JobName(log.job.name), tmp_path, store, FakeClock(), lambda *_: provider)
    for _ in range(2):
        if lets_in:
            context.fresh_host().close()
        else:
            with pytest.raises(ProviderUnavailable, match="takes none later"):
                context.fresh_host()
    assert len(asked) == (1 if lets_in else 2)
