"""Runs a command of the package on this machine: bounded in time and output, no shell."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core import environment
from harness.core.errors import BadInput
from harness.core.text import printable

_SECRET = re.compile(rf"^{environment.NOTIFY_VARIABLE}$|(^|_)(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS)$", re.IGNORECASE)

BOUNDS_MEMORY = sys.platform == "linux"
"""True where a command's memory can be bounded; elsewhere only its time is."""

PYTHON = "python3"
"""This word in a job's command means the interpreter that runs the harness."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ended: its exit status and the last of its output, made safe to show."""

    status: int
    tail: str
    timed_out: bool = False


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    timeout: float,
    tail: int = 4000,
    environ: Mapping[str, str] | None = None,
    memory: int | None = None,
) -> Finished:
    """Run a command to its end, or to ``timeout`` seconds, when it is killed with its children.

    Keeps the last ``tail`` bytes of what it prints. ``environ`` is its environment; not given, this process's without
    keys, tokens and URLs of notifications. Where ``BOUNDS_MEMORY``, it and each child of it get at most ``memory``
    bytes of their own (RLIMIT_DATA: files that are mapped do not count). Raises BadInput when it cannot be started.
    """
    if environ is None:
        environ = {name: value for name, value in environment.variables().items() if not _SECRET.search(name)}
    words = [sys.executable if word == PYTHON else word for word in argv]
    try:
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=sys.platform != "win32",
        )
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot run {' '.join(argv)[:200]}: {error}") from error
    if memory is not None:
        _bound(process.pid, memory)
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        _kill(process)

    timer = threading.Timer(timeout, expire)
    timer.start()
    kept = bytearray()
    try:
        with process:
            stream = process.stdout
            while stream is not None and (chunk := os.read(stream.fileno(), 1 << 16)):
                kept += chunk
                del kept[:-tail]
    except BaseException:
        _kill(process)
        raise
    finally:
        timer.cancel()
    return Finished(process.returncode, printable(kept.decode("utf-8", "replace"), tail), expired.is_set())


def _bound(pid: int, memory: int) -> None:
    """Bound a command's memory while it still starts; one that has ended already needs no bound."""
    if sys.platform == "linux":
        import resource  # noqa: PLC0415 - Windows has none

        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_DATA, (memory, memory))


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a command and what it started: its session on POSIX, its tree on Windows."""
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, check=False)
        return
    # The session outlives its leader as long as a child of it runs and holds the pipe open.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
