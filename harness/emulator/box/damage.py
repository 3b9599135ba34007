"""Damage that a scenario does inside a box: a full disk, a damaged file."""

from __future__ import annotations

import subprocess
from pathlib import Path

from harness.emulator.box.container import BoxFailed, Container
from harness.emulator.scenario import LifeEvent

MAX_FILES = 100


def fill_disk(container: Container, path: str, room: int) -> None:
    """Leave so many bytes of room under a path of the box, so that a write really fails with ENOSPC.

    A small file system is put there, inside the container: what was there is hidden
    until the container restarts. Raises BoxFailed without a container of our own.
    """
    if not container.isolated:
        raise BoxFailed("a full disk can be rehearsed only where boxes are isolated")
    script = 'mkdir -p "$0" && exec mount -t tmpfs -o "size=$1" emulated "$0"'
    command = container.wrap(["/bin/sh", "-c", script, f"/{path.lstrip('/')}", str(max(4096, room))])
    done = subprocess.run(command, capture_output=True, timeout=20, check=False, env=container.environment())
    if done.returncode != 0:
        raise BoxFailed(f"the disk could not be filled: {done.stderr.decode('utf-8', 'replace')[:200]}")


def damage(root: Path, event: LifeEvent) -> None:
    """Damage the files of the box that match the event's path."""
    for path in sorted(root.glob(event.path.lstrip("/")))[:MAX_FILES]:
        if path.is_file() and not path.is_symlink():
            _damage(path, event)


def _damage(path: Path, event: LifeEvent) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        if event.damage == "flip":
            at = max(0, size - 1 - event.bytes)
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 1]))
            return
        file.truncate(max(0, size - event.bytes))
        if event.damage == "zeros":
            file.truncate(size)
