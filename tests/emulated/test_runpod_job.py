"""A whole job on the embedded RunPod: replies are lost, a look is limited, a destroy does nothing; nothing is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.core.clock import SystemClock
from harness.core.ids import InstanceId, JobName
from harness.emulator.running import running
from harness.emulator.scenario import ApiFault
from harness.ledger.events import Closed, Destroyed, Rented
from harness.ledger.sql import open_store
from tests.support.job_histories import events_of
from tests.support.warm import warm

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS")
ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"
PATIENT = {  # limits that hold on a machine which does other things as well
    "ready_timeout_s = 25": "ready_timeout_s = 120\nmin_reliability = 0\nmin_inet_down_mbps = 0",
    "launch_deadline_s = 30": "launch_deadline_s = 180",
    "training_deadline_s = 40": "training_deadline_s = 300",
    "stall_s = 20": "stall_s = 120",
    'source = "quick_package"': f'source = "{(SUPPORT / "quick_package").as_posix()}"',
}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_job_at_runpod_ends_in_a_proven_teardown(tmp_path: Path) -> None:
    with running(tmp_path / "runpod") as emulator:
        text = (SUPPORT / "quick_job.toml").read_text(encoding="utf-8")
        settings = {'kind = "emulated"': f'kind = "runpod"\nserver_url = "{emulator.url}"', **PATIENT}
        for usual, here in settings.items():
            assert usual in text
            text = text.replace(usual, here)
        job = tmp_path / "job.toml"
        job.write_text(text, encoding="utf-8")
        environment = {**os.environ, "HARNESS_HOME": str(tmp_path / "home"), "RUNPOD_API_KEY": emulator.key}

        def run(*words: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "harness", "run", str(job), "--plain", "--yes", *words]
            return warm().run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)

        limited = json.dumps({"title": "Too Many Requests", "status": 429, "detail": "slow down"})
        for fault in (
            ApiFault(route="POST /v2/pods", do="drop", commit=True),
            ApiFault(route="GET /v2/pods", do="reply", status=429, body=limited, headers={"Retry-After": "1"}),
            ApiFault(route="GET /v2/pods/{id}", do="truncate"),
        ):
            emulator.world.faults.add(fault)
        done = run("--until", "postdownload")
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(emulator.world.faults.struck()) == 3
        (rental,) = emulator.world.rentals().values()

        emulator.world.faults.add(ApiFault(route="DELETE /v2/pods/{id}", do="reply", status=204, times=0))
        refused = run()
        assert refused.returncode == 6, refused.stdout + refused.stderr
        assert "still shown" in refused.stdout + refused.stderr
        assert list(emulator.world.rentals()) == [rental.id]

        emulator.world.faults.clear()
        done = run()
        assert done.returncode == 0, done.stdout + done.stderr
        assert not emulator.world.rentals()
    events = events_of(open_store(tmp_path / "home" / "state.db", SystemClock()).records(JobName("quick")))
    assert [type(event) for event in events][-1] is Closed
    pod = InstanceId(f"p{rental.id:x}")
    assert [event.instance_id for event in events if isinstance(event, Rented | Destroyed)] == [pod, pod]
