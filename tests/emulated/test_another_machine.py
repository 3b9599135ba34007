"""A job that one machine launched and another, which has the URL of the state and nothing else, brings to its end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.core.clock import SystemClock
from harness.ledger.sql import open_store
from tests.support.job_histories import events_of
from tests.support.operator import JOB, ROOT, RUN_S, Operator
from tests.support.postgres import Cluster


@pytest.mark.slow
def test_a_job_goes_on_from_a_machine_that_has_the_url_alone(
    tmp_path: Path, postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.new_database()
    monkeypatch.setenv("HARNESS_STATE", url)
    limits = ("training_deadline_s = 40", "training_deadline_s = 1200")  # two commands are started meanwhile
    first = Operator(tmp_path, "login-banner", changes=(limits,))
    try:
        assert first.run("--until", "launch") == 0
        assert not (first.home / "state.db").exists()
        second = tmp_path / "another"
        second.mkdir()
        for service in first.home.glob("emulator*"):  # the provider is the same, wherever it is asked from
            (second / service.name).symlink_to(service)
        first.file.unlink()
        shutil.rmtree(first.home / "ssh")
        (first.home / "jobs").rename(tmp_path / "lost")
        done = subprocess.run(
            [sys.executable, "-m", "harness", "run", JOB, "--yes", "--plain"],
            env={**os.environ, "HARNESS_HOME": str(second)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )
        sys.stdout.write(f"{done.stdout}{done.stderr}--- exit {done.returncode}\n")
        assert done.returncode == 0
        assert "s3cr3t" not in done.stdout + done.stderr
        store = open_store(url, SystemClock())
        assert store.verify(JOB) == ()
        kinds = [type(event).__name__ for event in events_of(store.records(JOB))]
        assert kinds.count("Rented") == 1
        assert kinds[-1] == "Closed"
        assert list((second / "jobs" / JOB / "evidence").glob("preflight-*.json"))
        assert not any(
            "s3cr3t" in path.read_text("utf-8", "replace") for path in second.rglob("report*") if path.is_file()
        )
    finally:
        first.close()
