"""Use of a service by processes: a file that each of them holds until it ends, however it ends.

The lock is the operating system's (flock): a process that is killed holds nothing any more. Where the file system
knows no locks, the service counts as used.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_HELD: dict[Path, int] = {}
"""Files that this process holds, with their descriptors."""


def hold(file: Path) -> None:
    """Hold the file until this process ends; waits for a service that is just ending."""
    if file in _HELD or sys.platform == "win32":
        return
    import fcntl  # noqa: PLC0415 - POSIX only

    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except OSError:
        os.close(descriptor)
        return
    _HELD[file] = descriptor


def nobody(file: Path) -> bool:
    """True when no process holds the file; this one then keeps all others waiting until it has ended."""
    if sys.platform == "win32":
        return False
    import fcntl  # noqa: PLC0415 - POSIX only

    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return True  # its folder is gone, and the jobs with it
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    return True
