"""A fleet of real jobs on the embedded service: two machines, one lost in mid-training, and a server that restarts.

``FLEET_JOBS=8`` in the environment makes it a longer night.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.artifacts.digest import of_file
from harness.core.clock import SystemClock
from harness.core.ids import JobName
from harness.core.lifecycle import Stage
from harness.emulator.state import FIRST_ID
from harness.ledger import billing
from harness.ledger.events import Destroyed, Rented, StageEntered
from harness.ledger.history import fold
from harness.ledger.sql import open_store
from tests.support.fleets import DEADLINE_S, until, write_fleet
from tests.support.job_histories import events_of
from tests.support.operator import ROOT, Operator
from tests.support.postgres import Cluster

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS")
NIGHT_S = 3600.0
JOBS = int(os.environ.get("FLEET_JOBS", "2"))
EMULATOR = "emulator"
"""Folder of the embedded service in a home."""
TWO_AT_ONCE_IN_NO_HURRY = {
    "max_usd_per_hour = 16.0": "max_usd_per_hour = 20.0",  # two offers fit, and a machine is rented out once
    "ready_timeout_s = 25": "ready_timeout_s = 120",
    "launch_deadline_s = 30": "launch_deadline_s = 120",
    "training_deadline_s = 40": "training_deadline_s = 300",
    "stall_s = 20": "stall_s = 120",
    "reconnect_s = 5": "reconnect_s = 30",
    "dead_after_s = 4": "dead_after_s = 30",
    "absence_deadline_s = 20": "absence_deadline_s = 120",
}
"""Changes of the quick job's file: its limits are for one job on a machine that does nothing else."""


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    operator = Operator(tmp_path, "none")
    home, other = operator.home, tmp_path / "other"
    for one in (home, other):
        one.mkdir()
    (home / EMULATOR).mkdir()
    (other / EMULATOR).symlink_to(home / EMULATOR)  # the provider is the same, wherever it is asked from
    yield home, other
    operator.close()


def _worker(home: Path, file: Path, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "harness", "fleet", *(command or ("run",)), str(file)],
        env={**os.environ, "HARNESS_HOME": str(home)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _drivers(worker: int) -> list[tuple[int, list[str]]]:
    """Process id and words of what drives a job for a worker."""
    import psutil

    found = []
    for child in psutil.Process(worker).children():
        with contextlib.suppress(psutil.Error):  # it has just ended
            if "--until" in (words := child.cmdline()):
                found.append((child.pid, words))
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_night_in_which_a_machine_is_lost(
    homes: tuple[Path, Path], tmp_path: Path, postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, names = postgres.new_database(), [JobName(f"job-{number}") for number in range(JOBS)]
    monkeypatch.setenv("HARNESS_STATE", url)
    file = write_fleet(
        tmp_path / "files", JOBS, concurrency=2, more="concurrency_per_worker = 1", changes=TWO_AT_ONCE_IN_NO_HURRY
    )
    store = open_store(url, SystemClock())
    first, second = (_worker(home, file) for home in homes)
    try:
        lost: list[JobName] = []

        def in_training() -> bool:
            assert first.poll() is None, first.communicate()
            words = [word for _, words in _drivers(first.pid) for word in words]
            lost[:] = [name for name in names if str(tmp_path / "files" / f"{name[-1]}.toml") in words]
            if "training" not in words:
                return False
            entered = [event.stage for event in events_of(store.records(lost[0])) if isinstance(event, StageEntered)]
            return Stage.TRAINING in entered

        until(in_training, NIGHT_S)
        for pid in (first.pid, *(pid for pid, _ in _drivers(first.pid))):
            os.kill(pid, signal.SIGKILL)
        postgres.stop()
        postgres.start()
        said, _ = second.communicate(timeout=NIGHT_S)
        sys.stdout.write(said)
        assert second.returncode == 0
        assert f"{lost[0]}: its worker is gone" in said
    finally:
        for worker in (first, second):
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
            if worker.stdout is not None and not worker.stdout.closed:
                sys.stdout.write(worker.communicate()[0])
    shown, _ = _worker(homes[1], file, "status").communicate(timeout=DEADLINE_S)
    assert f"{JOBS} done" in shown
    world = Operator(tmp_path, "none").world()
    assert world.last_id == FIRST_ID + JOBS - 1  # so many instances were ever created
    assert world.rentals == {}
    for name in names:
        assert store.verify(name) == ()
        history = fold(store.records(name))
        assert history.closed
        assert history.fetched is not None
        at_home = [found for home in homes for found in (home / "jobs" / name / "artifact").glob("*.gguf")]
        assert history.fetched.sha256 in [of_file(found).sha256 for found in at_home]
        events = events_of(store.records(name))
        (rented,) = (event for event in events if isinstance(event, Rented))
        assert [type(event) for event in events].count(Destroyed) == 1
        charged = world.charges.total(int(str(rented.instance_id)))
        assert billing.spent(history, SystemClock().now()) == pytest.approx(charged, rel=0.1, abs=0.02)
