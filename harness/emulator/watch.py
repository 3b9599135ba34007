"""What is to be looked at on a box now and then: its files, for the scenario's conditions, and its disk."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.emulator.box.layout import Layout
from harness.emulator.rental import Rental
from harness.emulator.scenario import When
from harness.emulator.world import World

TAIL = 64 << 10
"""Bytes of a file's end in which a condition's text is searched."""


@dataclass(slots=True)
class Watch:
    """Looks at one box; keeps the last measured disk usage."""

    _used: float = 0.0
    _measured_at: float = -1e9

    def look(self, world: World, layout: Layout, rental: Rental) -> None:
        """Let what the scenario has in store for this instance happen."""
        event = world.faults.life(self.holds(world, layout, rental.id))
        if event is not None:
            world.happen(rental.id, event)

    def holds(self, world: World, layout: Layout, instance_id: int) -> Callable[[When], bool]:
        """Whether a condition holds on this box now."""

        def holds(when: When) -> bool:
            rental = world.rentals.get(instance_id)
            if rental is None:
                return False
            if when.running_s and (
                rental.running_since is None or world.clock.now() < rental.running_since + when.running_s
            ):
                return False
            return not when.file or any(_says(path, when.text) for path in sorted(layout.root.glob(when.file))[:100])

        return holds

    def room(self, layout: Layout, disk_gb: float) -> float:
        """Bytes left under the disk's quota; measured at most once a second."""
        now = time.monotonic()
        if now > self._measured_at + 1.0:
            self._used, self._measured_at = float(used_bytes(layout.root)), now
        return disk_gb * 1e9 - self._used


def used_bytes(folder: Path) -> int:
    """What the files under a directory take on the disk, links not followed."""
    total = 0
    for where, _, names in os.walk(folder, onerror=None):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_blocks * 512  # noqa: PTH118  # walk gives strings
            except OSError:
                continue
    return total


def _says(path: Path, text: str) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            return re.search(text, file.read().decode("utf-8", "replace")) is not None
    except OSError:
        return False
