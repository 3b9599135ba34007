"""Paths as the box means them, resolved on this machine without ever leaving the box.

A link on the box may point anywhere, absolute or upwards: it is followed as it
would be inside the box, where ``/`` is the box's root.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

MAX_LINKS = 40
"""Links followed in one path, as Linux does (path_resolution(7))."""


def resolve(root: Path, path: str, *, follow_last: bool = True) -> Path:
    """Where a path of the box lies on this machine; raises OSError (ELOOP) on a circle of links."""
    todo = _parts(path)
    done: list[str] = []
    links = 0
    while todo:
        part = todo.pop(0)
        if part == ".":
            continue
        if part == "..":
            done = done[:-1]
            continue
        here = root.joinpath(*done, part)
        if here.is_symlink() and (todo or follow_last):
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = str(here.readlink())
            done = [] if target.startswith("/") else done
            todo = _parts(target) + todo
            continue
        done.append(part)
    return root.joinpath(*done)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]
