"""The quick job, driven by real processes of the command line against an embedded service of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
            [sys.executable, "-m", *self._words(*options)],
            env=self._environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _words(self, *options: str) -> list[str]:
        return ["harness", "run", str(self.file), "--yes", "--plain", *options]

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "HARNESS_HOME": str(self.home)}

    def run(self, *options: str) -> int:
        """The command, to its end; its exit code."""
        done = warm().python(self._words(*options), env=self._environment, cwd=ROOT, timeout=RUN_S)
        return self._ended(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def end(self, process: subprocess.Popen[str]) -> int:
        """Wait for a command's end; its exit code."""
        try:
            out, err = process.communicate(timeout=RUN_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return self._ended(process.args, process.returncode, out, err)

    def _ended(self, command: Any, code: int, out: str, err: str) -> int:
        self.said.append(subprocess.CompletedProcess(command, code, out, err))
        sys.stdout.write(f"{out}{err}--- exit {code}\n")  # pytest shows it when something does not hold
        return code

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
