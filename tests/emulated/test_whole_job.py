"""A whole job through the command line: killed twice, its file spoilt twice, and still nothing is lost."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.core.clock import SystemClock
from harness.core.ids import JobName
from harness.core.lifecycle import Stage
from harness.ledger.events import ArtifactRecorded, Closed, Fetched, Launched, Rented, StageEntered
from harness.ledger.kinds import JobEvent
from harness.ledger.sql import open_store
from harness.providers.emulated import open_emulated, stop_emulator
from tests.support.job_histories import events_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS")
ROOT = Path(__file__).resolve().parents[2]
JOB = JobName("whole-job")
SLOW_LINE = """
about = "The line home is slow, once the model is finished."
ends = "closed"

[[ssh]]
do = "cap"
after_bytes = 20000
bytes_per_s = 25000.0
times = 0
when = { file = "workspace/vastai_llm_training/MANIFEST.json" }
"""


class Rehearsal:
    """One home with one job, driven by real processes."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        scenario = folder / "slow-line.toml"
        scenario.write_text(SLOW_LINE, encoding="utf-8")
        text = (ROOT / "examples" / "local.toml").read_text(encoding="utf-8")
        text = text.replace('name = "demo"', f'name = "{JOB}"').replace(
            "../training_pkg", (ROOT / "training_pkg").as_posix()
        )
        text = text.replace('kind = "emulated"', f'kind = "emulated"\nscenario = "{scenario.as_posix()}"')
        self.file = folder / "job.toml"
        self.file.write_text(text, encoding="utf-8")
        self.environment = {**os.environ, "HARNESS_HOME": str(self.home)}

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "harness", *words]
        return subprocess.Popen(command, env=self.environment, cwd=ROOT, stdout=subprocess.DEVNULL)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "harness", *words]
        return subprocess.run(command, env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False)

    def gate(self, stage: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "checks/", f"--stage={stage}", "-q", "-p", "no:cacheprovider"]
        return subprocess.run(command, env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False)

    def events(self) -> tuple[JobEvent, ...]:
        if not self.home.exists():
            return ()
        return events_of(open_store(self.home / "state.db", SystemClock()).records(JOB))

    def kinds(self) -> list[type[JobEvent]]:
        return [type(event) for event in self.events()]

    def kill_when(self, condition: Callable[[], bool], limit: float) -> None:
        process = self.start("run", str(self.file), "--until", "postdownload", "--plain", "--yes")
        deadline = time.monotonic() + limit
        try:
            while not condition():
                assert process.poll() is None, "the run ended before it could be killed"
                assert time.monotonic() < deadline, "the moment to kill it never came"
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def alive_at_the_provider(self) -> list[int]:
        provider = open_emulated(
            self.home / "emulator-slow-line", SystemClock(), scenario=str(self.file.parent / "slow-line.toml")
        )
        return sorted(int(str(one)) for one in provider.instances().ids())


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    made = Rehearsal(tmp_path_factory.mktemp("whole-job"))
    yield made
    stop_emulator(made.home / "emulator-slow-line")


def _entered(rehearsal: Rehearsal, stage: Stage) -> bool:
    return StageEntered(stage) in rehearsal.events()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_job_survives_kills_and_gives_nothing_up(rehearsal: Rehearsal) -> None:
    artifact_folder = rehearsal.home / "jobs" / JOB / "artifact"

    rehearsal.kill_when(lambda: _entered(rehearsal, Stage.TRAINING), limit=600)
    assert ArtifactRecorded not in rehearsal.kinds()
    rehearsal.kill_when(lambda: any(artifact_folder.glob("*.part*")), limit=900)
    assert Fetched not in rehearsal.kinds()

    done = rehearsal.run("run", str(rehearsal.file), "--until", "postdownload", "--plain", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    kinds = rehearsal.kinds()
    assert kinds.count(Rented) == 1
    assert kinds.count(Launched) == 1
    (instance,) = rehearsal.alive_at_the_provider()

    (recorded,) = [event for event in rehearsal.events() if isinstance(event, ArtifactRecorded)]
    (local,) = artifact_folder.glob("*.gguf")
    on_the_box = rehearsal.home.glob(f"emulator-slow-line/**/boxes/{instance}/**/final/{local.name}")
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (local, *on_the_box)}
    assert digests == {recorded.sha256}

    opened = rehearsal.gate("postdownload")
    assert opened.returncode == 0, opened.stdout

    whole = local.read_bytes()
    local.chmod(0o644)
    local.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    _refuses(rehearsal, instance, "local_sha256_equals_remote")
    local.unlink()
    _refuses(rehearsal, instance, "local_file_exists")

    done = rehearsal.run("run", str(rehearsal.file), "--yes", "--plain")
    assert done.returncode == 0, done.stdout + done.stderr
    assert hashlib.sha256(local.read_bytes()).hexdigest() == recorded.sha256
    assert rehearsal.alive_at_the_provider() == []
    assert rehearsal.kinds()[-1] is Closed

    report = json.loads((local.parents[1] / "GOLD_STANDARD.json").read_text(encoding="utf-8"))
    assert recorded.sha256 in json.dumps(report)
    assert "FAIL" not in (local.parents[1] / "GOLD_STANDARD.md").read_text(encoding="utf-8").split("## Timeline")[0]


def _refuses(rehearsal: Rehearsal, instance: int, check: str) -> None:
    """The gate is shut by this very check, and the guard lets nothing go."""
    shut = rehearsal.gate("postdownload")
    assert shut.returncode != 0
    assert f"FAIL {check}" in shut.stdout
    refused = rehearsal.run("destroy", JOB, "--yes", "--plain")
    assert refused.returncode == 5, refused.stdout + refused.stderr
    assert rehearsal.alive_at_the_provider() == [instance]
