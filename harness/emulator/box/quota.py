"""The disk's quota: past it, no process of the box writes another byte to a file.

An ordinary user cannot give a directory a size, so the use is measured every few
seconds, and while it is over the quota the box's processes get a file size limit
of zero (setrlimit(2): RLIMIT_FSIZE). Their writes fail with EFBIG where a rented
disk would say ENOSPC; SFTP and scp say it as the rented disk does.
"""

from __future__ import annotations

import contextlib
import sys

import psutil


def hold(processes: list[psutil.Process], *, over: bool) -> None:
    """Forbid or allow file writes; only Linux can change the limits of a running process."""
    if sys.platform != "linux":
        return
    for process in processes:
        with contextlib.suppress(psutil.Error, OSError):
            _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
            process.rlimit(psutil.RLIMIT_FSIZE, (0 if over else hard, hard))
