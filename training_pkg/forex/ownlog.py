"""``training.log`` kept by the run itself: complete, whatever the shell does with the output.

The commands that people type lose lines: one without ``tee`` writes no log, ``tee training.log`` and
``> training.log`` empty the one of the run that died. So all that is printed also goes to a log of the run's own,
``models/training.log``, from which ``training.log`` is made whole again at each start.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from . import durable

LOG = Path("training.log")
KEPT = Path("models/training.log")

_LAST_LINES_S = 10.0
"""Seconds that the last lines get to reach the disk after the run."""

_PAUSE_S = 0.05


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Append whatever this process and its children print to both logs, and still print it.

    ``tee`` does it, in a process and session of its own: what a library wrote before a crash, and what is said after
    Ctrl-C, reach the disk too. A system without ``tee`` is no rented box: there the shell's log is the only one.
    """
    tee = shutil.which("tee")
    if tee is None:
        yield
        return
    sys.stdout.flush()
    sys.stderr.flush()
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    with (KEPT.parent / ".log.lock").open("wb") as lock:
        _wait_for(lock)
        logs = [KEPT] if _completed_by_shell() else [LOG, KEPT]
        with _copied_by([tee, "-a", *map(str, logs)], lock):
            yield


def _wait_for(lock: BinaryIO) -> None:
    """Wait until the copier of a run that died has written its last lines: it holds this lock as long as it lives."""
    import fcntl  # noqa: PLC0415 - Windows has none, and no tee

    for _ in range(int(_LAST_LINES_S / _PAUSE_S)):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_PAUSE_S)


def _completed_by_shell() -> bool:
    """True when the output already goes to the end of ``training.log``; that log is made whole first."""
    if not KEPT.exists():
        durable.write_bytes(KEPT, _read(LOG))
    before = KEPT.read_bytes()
    if _is_output(LOG):
        output = sys.stdout.fileno()
        if LOG.stat().st_size < len(before):  # the shell's > has emptied it
            os.ftruncate(output, 0)
            with open(output, "wb", closefd=False) as log:
                log.write(before)
        # Not at its end when the last lines of the run that died came behind the >.
        os.lseek(output, 0, os.SEEK_END)
        return True
    if not (os.isatty(sys.stdout.fileno()) and _read(LOG) == before):
        # A new file under the old name: a tee that has emptied the old one writes on where nobody looks.
        durable.write_bytes(LOG, before)
    return False


@contextlib.contextmanager
def _copied_by(command: list[str], lock: BinaryIO) -> Iterator[None]:
    """Both outputs of this process lead through ``command``, whose own output is the one from before."""
    outputs = sys.stdout.fileno(), sys.stderr.fileno()
    before = [os.dup(output) for output in outputs]
    copier = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=before[0], start_new_session=True, pass_fds=[lock.fileno()]
    )
    assert copier.stdin is not None  # noqa: S101 - it was asked for
    try:
        for output in outputs:
            os.dup2(copier.stdin.fileno(), output)
        copier.stdin.close()
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for output, old in zip(outputs, before, strict=True):
            os.dup2(old, output)
            os.close(old)
        with contextlib.suppress(subprocess.TimeoutExpired):  # a child that lives on holds the pipe open
            copier.wait(_LAST_LINES_S)


def _is_output(path: Path) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    except OSError:
        return False


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
