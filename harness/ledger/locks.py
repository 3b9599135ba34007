"""One process at a time runs a job: a lock file that the operating system releases when its holder dies."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from harness.core.errors import JobBusy, StoreFailed
from harness.core.ids import JobName
from harness.core.ports import Clock
from harness.core.text import printable

_HOLDER_LIMIT = 4096


@contextmanager
def job_lock(directory: Path, job: JobName, clock: Clock) -> Iterator[None]:
    """Hold the job's lock while the block runs. Raises JobBusy at once when another holds it, StoreFailed."""
    with sole(directory, f"job-{job}", f"job {job} is being run", clock):
        yield


@contextmanager
def sole(directory: Path, name: str, what: str, clock: Clock) -> Iterator[None]:
    """Hold a lock of that name while the block runs; ``what`` is being done by its holder, as JobBusy says.

    The holder is named in a file of its own beside the lock: Windows lets nobody read a locked file.
    """
    lock = FileLock(directory / f"{name}.lock", timeout=0)
    holder = directory / f"{name}.holder.json"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise JobBusy(f"{what} by {_named(holder)}") from error
    except (OSError, NotImplementedError) as error:
        raise StoreFailed(f"cannot lock {name} in {directory}: {error}") from error
    try:
        _name_ourselves(holder, clock)
        yield
    finally:
        lock.release()


def _name_ourselves(holder: Path, clock: Clock) -> None:
    """Only for the message of the next one: not durable, and a failure is told like any other of the directory."""
    mine = {"pid": os.getpid(), "host": platform.node(), "since": clock.now()}
    try:
        holder.write_text(json.dumps(mine), encoding="utf-8")
    except OSError as error:
        raise StoreFailed(f"cannot write {holder}: {error}") from error


def _named(holder: Path) -> str:
    try:
        with holder.open(encoding="utf-8") as file:
            known = json.loads(file.read(_HOLDER_LIMIT))
        return printable(f"process {int(known['pid'])} on {known['host']}", 200)
    except (OSError, ValueError, TypeError, KeyError):
        return "another process"
