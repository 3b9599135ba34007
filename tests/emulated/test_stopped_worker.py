"""A worker that is stopped (SIGSTOP) for longer than its lease, and continued: it changes nothing any more.

Two real processes over one database. The first drives a scripted job and is stopped right behind an event, where its
next act is due; another takes the job over; the first goes on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from harness.core.clock import SystemClock
from harness.core.ids import JobName
from harness.ledger.leases import LEASE_S
from harness.ledger.noted import AtWork
from harness.ledger.sql import open_store
from tests.support.postgres import Cluster

WORKER = """
import json, os, sys
from pathlib import Path
import pytest
from harness.core.errors import HarnessError
from harness.ledger.sql import open_store
from tests.support.context import MemoryStore, make_world


class Remembering(MemoryStore):  # what a scripted context reads anew at every turn
    def append(self, job, event, *, expected_seq=None):
        record = shared.append(job, event, expected_seq=expected_seq)
        self.logs.setdefault(job, []).append(record)
        return record

    def require_lease(self, job, *, within_s=0.0):
        shared.require_lease(job, within_s=within_s)


url, folder, stop_behind, number = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
patch = pytest.MonkeyPatch()
for sync in ("fsync", "fdatasync"):  # as for all tests: the power stays on
    patch.setattr(os, sync, lambda _: None, raising=False)
world = make_world(folder, patch, fast=True)
shared = open_store(url, world.clock)
world.store = Remembering(world.clock)
seen = []


def changes():
    acts = {act: world.provider.count(act) for act in ("create", "start", "stop", "destroy")}
    files = sorted(str(path) for path in world.box.root.rglob("*") if path.is_file())
    return [acts, world.box.attempts, world.box.stops, dict(world.box.begun), files]


def pause(event, done):
    if done and type(event).__name__ == stop_behind:
        seen.append(changes())
        if len(seen) == number:
            print("here", flush=True)
            sys.stdin.readline()


with shared.lock(world.job.name):
    try:
        world.run(on_record=pause)
        ended = "to its end"
    except HarnessError as error:
        ended = type(error).__name__
print(json.dumps({"ended": ended, "before": seen[number - 1], "after": changes()}), flush=True)
"""
JOB = JobName("night")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows stops no process")
@pytest.mark.parametrize(
    ("behind", "number"),
    [("RentIntended", 1), ("Uploaded", 1), ("StageEntered", 5), ("DestroyIntended", 1)],
    ids=["about to rent", "about to install", "about to launch the training", "about to destroy"],
)
def test_a_worker_that_was_stopped_beyond_its_lease(
    behind: str, number: int, tmp_path: Path, postgres: Cluster
) -> None:
    url = postgres.new_database()
    command = [sys.executable, "-c", WORKER, url, str(tmp_path), behind, str(number)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert worker.stdout.readline() == "here\n"
        os.kill(worker.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WNOWAIT)
        store = open_store(url, SystemClock())
        with store.database.engine.begin() as connection:
            aged = sa.text("update leases set until = until - :lease")
            connection.execute(aged, {"lease": LEASE_S + 1})
        with store.lock(JOB):
            store.append(JOB, AtWork("another worker"))
            known = store.records(JOB)
            os.kill(worker.pid, signal.SIGCONT)
            worker.stdin.write("\n")
            worker.stdin.flush()
            told = json.loads(worker.stdout.readline())
            assert worker.wait(120) == 0
            assert told["ended"] == "LeaseLost"
            assert told["after"] == told["before"]
            assert store.records(JOB) == known
            store.require_lease(JOB)
