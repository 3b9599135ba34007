"""The quick job, driven by real processes of the command line against an embedded service of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from harness.core.clock import SystemClock
from harness.core.ids import JobName
from harness.emulator.box.container import Container, can_isolate
from harness.emulator.box.layout import layout_of
from harness.emulator.state import State, read
from harness.ledger.chain import Record
from harness.ledger.kinds import JobEvent
from harness.ledger.sql import open_store
from harness.providers.emulated import stop_emulator
from tests.support.job_histories import events_of
from tests.support.warm import warm

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"
JOB = JobName("quick")
RUN_S = 240.0


@dataclass(slots=True)
class Operator:
    """A home with one job in it, and the command that is typed again and again."""

    folder: Path
    scenario: str
    said: list[subprocess.CompletedProcess[str]] = field(default_factory=list)
    changes: tuple[tuple[str, str], ...] = ()
    """What of the quick job's file is replaced by what."""

    @property
    def home(self) -> Path:
        """The harness's own folder."""
        return self.folder / "home"

    @property
    def directory(self) -> Path:
        """The job's folder."""
        return self.home / "jobs" / JOB

    @property
    def file(self) -> Path:
        """The job file, written once."""
        path = self.folder / "job.toml"
        if not path.exists():
            text = (SUPPORT / "quick_job.toml").read_text(encoding="utf-8")
            text = text.replace('"quick_package"', json.dumps((SUPPORT / "quick_package").as_posix()))
            text = text.replace('kind = "emulated"', f'kind = "emulated"\nscenario = "{self.scenario}"')
            for old, new in self.changes:
                assert old in text
                text = text.replace(old, new)
            path.write_text(text, encoding="utf-8")
        return path

    def start(self, *options: str) -> subprocess.Popen[str]:
        """The command, in a process of its own."""
        return subprocess.Popen(
            self._command(*options),
            env=self._environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _command(self, *options: str) -> list[str]:
        return [sys.executable, "-m", "harness", "run", str(self.file), "--yes", "--plain", *options]

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "HARNESS_HOME": str(self.home)}

    def run(self, *options: str) -> int:
        """The command, to its end; its exit code."""
        return self._ended(
            warm().run(
                self._command(*options),
                env=self._environment,
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=RUN_S,
                check=False,
            )
        )

    def end(self, process: subprocess.Popen[str]) -> int:
        """Wait for a command's end; its exit code."""
        try:
            out, err = process.communicate(timeout=RUN_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return self._ended(subprocess.CompletedProcess(process.args, process.returncode, out, err))

    def _ended(self, done: subprocess.CompletedProcess[str]) -> int:
        self.said.append(done)
        # pytest shows it when something does not hold
        sys.stdout.write(f"{done.stdout}{done.stderr}--- exit {done.returncode}\n")
        return done.returncode

    @property
    def service(self) -> Path:
        """The emulator's own home."""
        (found,) = self.home.glob("emulator*")
        return found

    def records(self) -> tuple[Record, ...]:
        """The job's event log."""
        return open_store(self.home / "state.db", SystemClock()).records(JOB)

    def events(self) -> tuple[JobEvent, ...]:
        """What has happened to the job."""
        return events_of(self.records())

    def world(self) -> State:
        """What the service knows; it is stopped first, so that everything is written down."""
        stop_emulator(self.service)
        known = read(self.service / "state")
        assert known is not None
        return known[0]

    def box(self, instance_id: int) -> Path:
        """Where a box's files lie."""
        return layout_of(self.service / "state", instance_id).root

    def close(self) -> None:
        """Leave no process behind: boxes outlive their emulator."""
        for service in self.home.glob("emulator*"):
            stop_emulator(service)
            for box in (service / "state" / "boxes").glob("*"):
                Container(layout_of(service / "state", int(box.name)), can_isolate()).kill()
