"""A box's disk: measured every few seconds; past its quota no process of the box writes another byte to a file.

An ordinary user cannot give a directory a size, so while the use is over the quota the box's processes get a file
size limit of zero (setrlimit(2): RLIMIT_FSIZE). Their writes fail with EFBIG where a rented disk would say ENOSPC;
SFTP and scp say it as the rented disk does.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from harness.emulator.box.container import Container

MEASURE_S = 2.0
"""How often a disk is measured, in real seconds."""


@dataclass(slots=True)
class BoxDisk:
    """Disk of one box, in bytes: its size, and what was used of it when it was last measured or written to."""

    container: Container
    size: float
    used: int = 0
    _over: bool = False
    _measured_at: float = -MEASURE_S

    def due(self) -> bool:
        """True when it is time to measure it."""
        return time.monotonic() >= self._measured_at + MEASURE_S  # the load on this machine is a matter of real time

    def measure(self) -> None:
        """Measure it, and hold the box to its quota."""
        self._measured_at = time.monotonic()
        self.used = used_bytes(self.container.layout.root)
        over = self.used > self.size
        if over or self._over:
            _hold(self.container.processes(), over=over)
        self._over = over


def used_bytes(folder: Path) -> int:
    """Bytes that the files under a directory take on the disk, links not followed."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(where, name).lstat().st_blocks * 512
            except OSError:  # removed while we looked
                continue
    return total


def _hold(processes: list[psutil.Process], *, over: bool) -> None:
    """Forbid or allow file writes; only Linux can change the limits of a running process."""
    if sys.platform != "linux":
        return
    for process in processes:
        with contextlib.suppress(psutil.Error, OSError):
            _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
            process.rlimit(psutil.RLIMIT_FSIZE, (0 if over else hard, hard))
