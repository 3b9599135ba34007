"""Conditions of a scenario: how long an instance has run, and what a file on its box says."""

from __future__ import annotations

import re
from pathlib import Path

from harness.emulator.box.layout import layout_of
from harness.emulator.scenario import When
from harness.emulator.world import World

TAIL = 64 << 10
"""Bytes of a file's end in which a condition's text is searched."""

MAX_FILES = 100


def holds(world: World, instance_id: int, when: When) -> bool:
    """True when the condition holds for one instance now; it holds for none that is gone."""
    with world.lock:
        rental, now = world.state.rentals.get(instance_id), world.clock.now()
    if rental is None:
        return False
    if when.running_s and (rental.running_since is None or now < rental.running_since + when.running_s):
        return False
    if not when.file:
        return True
    try:
        paths = sorted(layout_of(world.state_dir, instance_id).root.glob(when.file))
    except OSError:  # a directory went away while we looked
        return False
    return any(_says(path, when.text) for path in paths[:MAX_FILES])


def holds_for_any(world: World, when: When) -> bool:
    """True when it holds for some instance now; a condition without any demand always holds."""
    if when == When():
        return True
    with world.lock:
        known = list(world.state.rentals)
    return any(holds(world, instance_id, when) for instance_id in known)


def _says(path: Path, text: str) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            return re.search(text, file.read().decode("utf-8", "replace")) is not None
    except OSError:
        return False
