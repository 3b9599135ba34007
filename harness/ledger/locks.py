"""One process of this machine at a time: a lock file that the operating system releases when its holder dies."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from harness.core.errors import JobBusy, StoreFailed
from harness.core.ports import Clock
from harness.core.text import printable

LEASE_S: Final = 60.0
"""Seconds for which a process has a job on a server without being heard from; it is renewed four times as often."""
_HOLDER_LIMIT = 4096


@contextmanager
def sole(directory: Path, name: str, what: str, clock: Clock, *, names: bool = True) -> Iterator[None]:
    """Hold a lock of that name while the block runs; ``what`` is being done by its holder, as JobBusy says.

    The holder is named in a file of its own beside the lock: Windows lets nobody read a locked file. Not ``names``:
    somebody who only tries the lock.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 - whoever only looks locks nothing

    lock = FileLock(directory / f"{name}.lock", timeout=0)
    holder = directory / f"{name}.holder.json"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise JobBusy(f"{what} by {holder_of(directory, name)}") from error
    except (OSError, NotImplementedError) as error:
        raise StoreFailed(f"cannot lock {name} in {directory}: {error}") from error
    try:
        if names:
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


def holder_of(directory: Path, name: str) -> str:
    """The process that last had the lock of that name, in words."""
    try:
        with (directory / f"{name}.holder.json").open(encoding="utf-8") as file:
            return told(file.read(_HOLDER_LIMIT))
    except (OSError, ValueError):
        return told("")


def told(holder: str) -> str:
    """A process that wrote down who it is, in words."""
    try:
        known = json.loads(holder)
        return printable(f"process {int(known['pid'])} on {known['host']}", 200)
    except (ValueError, TypeError, KeyError):
        return "another process"
