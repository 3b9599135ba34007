"""Fleets of jobs that are played: their files, and workers in processes of their own. Run as a program, it is one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core import environment
from harness.core.clock import SystemClock
from harness.fleet import worker as fleet_worker
from harness.fleet.engine import Engine, JobPlace, open_engine
from harness.fleet.file import load_fleet
from harness.fleet.worker import Worker
from harness.ledger import leases
from harness.ledger.sql import open_state

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"
DEADLINE_S = 120.0


def write_fleet(
    folder: Path, jobs: int, *, concurrency: int = 8, more: str = "", changes: Mapping[str, str] | None = None
) -> Path:
    """A fleet file in a folder, with so many quick jobs: job-0, job-1 and so on; ``more`` goes before its jobs.

    ``changes``: what of the quick job's file is replaced by what.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = (SUPPORT / "quick_job.toml").read_text(encoding="utf-8")
    text = text.replace('"quick_package"', json.dumps((SUPPORT / "quick_package").as_posix()))
    for old, new in (changes or {}).items():
        assert old in text
        text = text.replace(old, new)
    told = ['name = "night"', f"concurrency = {concurrency}", more]
    told += ["[agreed]", f"budget_usd = {20.0 * jobs}", "destroy = true"]
    for number in range(jobs):
        (folder / f"{number}.toml").write_text(text.replace('"quick"', f'"job-{number}"', 1), encoding="utf-8")
        told += ["[[jobs]]", f'file = "{number}.toml"', f"priority = {jobs - number}"]
    file = folder / "fleet.toml"
    file.write_text("\n".join(told), encoding="utf-8")
    return file


def until(condition: Callable[[], bool], within_s: float = DEADLINE_S) -> None:
    """Wait for a fact; raises AssertionError when it does not become true in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


@dataclass(slots=True)
class PlayedFleet:
    """A fleet with its home, and every worker that was started."""

    folder: Path
    state: str | None = None
    """URL of the store where it is not a file: each worker has a home of its own then."""
    workers: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def file(self) -> Path:
        """The fleet file."""
        return self.folder / "files" / "fleet.toml"

    @property
    def played(self) -> Path:
        """Where the played jobs meet."""
        return self.folder / "played"

    def home(self, worker: int) -> Path:
        """The harness's folder of a worker."""
        return self.folder / f"home-{worker if self.state else 0}"

    def play(self, job: int, stage: str, codes: str) -> None:
        """What ``harness run`` does with a job in a stage: see ``played_run``."""
        (self.played / "plays").mkdir(parents=True, exist_ok=True)
        (self.played / "plays" / f"job-{job}-{stage}").write_text(codes, encoding="utf-8")

    def start(self) -> subprocess.Popen[str]:
        """A worker in a process of its own."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fleets", str(self.file)],
            env={
                **os.environ,
                "HARNESS_HOME": str(self.home(len(self.workers))),
                "PLAYED": str(self.played),
                **({"HARNESS_STATE": self.state} if self.state else {}),
            },
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.workers.append(process)
        return process

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Wait for a worker's end: its exit code, and all that it said."""
        said, _ = process.communicate(timeout=DEADLINE_S)
        sys.stdout.write(f"{said}--- exit {process.returncode}\n")
        return process.returncode, said

    def calls(self, word: str = "begin") -> list[tuple[str, str]]:
        """Job and stage of every call that has begun, in their order."""
        path = self.played / "calls"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [(words[1], words[2]) for line in lines if (words := line.split())[0] == word]

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """The fleet as ``harness fleet status`` sees it."""
        with open_engine(load_fleet(self.file), self.home(0)) as engine:
            yield engine

    def places(self) -> dict[str, JobPlace]:
        """JobPlace of each job."""
        with self.engine() as engine:
            return {str(name): one.place for name, one in engine.standpoints().items()}

    def children(self, of: int | None = None) -> list[int]:
        """Process ids of what drives jobs now, or of what a worker began that is gone."""
        import psutil

        found = []
        for process in psutil.process_iter(["cmdline", "environ"]):
            words, home = process.info["cmdline"] or [], (process.info["environ"] or {}).get("HARNESS_HOME")
            if str(SUPPORT / "played_run.py") in words and any(str(self.folder) in word for word in words):
                numbers = [worker.pid for worker in self.workers]
                if of is None or home == str(self.home(numbers.index(of))):
                    found.append(process.pid)
        return found

    def close(self) -> None:
        """Leave no process behind."""
        for process in self.workers:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if process.stdout is not None and not process.stdout.closed:
                sys.stdout.write(process.stdout.read())  # pytest shows it when something does not hold
                process.stdout.close()
        for pid in self.children():
            os.kill(pid, signal.SIGKILL)


def _say(told: str) -> None:
    sys.stdout.write(f"{told}\n")
    sys.stdout.flush()


def _tell_when_a_pause_is_heard(told: Path) -> None:
    """DBOS begins nothing any more once it has read the queue's new limits, which nothing tells outside."""
    from dbos._sys_db import SystemDatabase

    read = SystemDatabase.get_queue

    def heard(*given: Any, **named: Any) -> Any:
        queue = read(*given, **named)
        if queue is not None and queue._worker_concurrency == 0:
            told.touch()
        return queue

    setattr(SystemDatabase, read.__name__, heard)


def main(file: Path) -> None:
    """A worker whose jobs are played, and which tries again at once."""
    for module, name, seconds in (
        (fleet_worker, "WAITS_S", (0.1, 0.1, 0.1)),
        (fleet_worker, "_BUSY_S", 0.2),
        (leases, "LEASE_S", 30.0),  # a machine that is lost is missed sooner
        (leases, "_ENOUGH_S", 15.0),
    ):
        setattr(module, name, seconds)
    _tell_when_a_pause_is_heard(Path(os.environ["PLAYED"]) / "paused")
    home = environment.home()
    program = (sys.executable, str(SUPPORT / "played_run.py"))
    with open_engine(load_fleet(file), home, patient=True) as engine:
        store = open_state(home, SystemClock())
        worker = Worker(file, home, engine, store, SystemClock(), _say, program)
        known = worker.work()
    _say(json.dumps({name: one.place for name, one in known.items()}))


if __name__ == "__main__":
    from harness.cli.entry import _ending_like_ctrl_c

    with _ending_like_ctrl_c([]):
        main(Path(sys.argv[1]))
