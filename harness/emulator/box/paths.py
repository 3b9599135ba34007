"""Paths as the box means them, resolved on this machine without ever leaving the box.

A link on the box may point anywhere, absolute or upwards: it is followed as it
would be inside the box, where ``/`` is the box's root.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

MAX_LINKS = 40
"""Links followed in one path, as Linux does (path_resolution(7))."""


NO_MOUNTS: Mapping[str, Path] = MappingProxyType({})


def resolve(root: Path, path: str, *, follow_last: bool = True, mounts: Mapping[str, Path] = NO_MOUNTS) -> Path:
    """Where a path of the box lies on this machine; raises OSError (ELOOP) on a circle of links.

    ``mounts``: directories of this machine that show in the box at an absolute path, links in that resolved.
    """
    return _place(root, within(root, path, follow_last=follow_last, mounts=mounts), mounts)


def within(
    root: Path, path: str, *, follow_last: bool = True, mounts: Mapping[str, Path] = NO_MOUNTS
) -> tuple[str, ...]:
    """A path of the box with its links followed, as the box would name it: the parts below ``/``."""
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
        here = _place(root, (*done, part), mounts)
        if "/".join(("", *done, part)) not in mounts and here.is_symlink() and (todo or follow_last):
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = str(here.readlink())
            done = [] if target.startswith("/") else done
            todo = _parts(target) + todo
            continue
        done.append(part)
    return tuple(done)


def _place(root: Path, parts: tuple[str, ...], mounts: Mapping[str, Path]) -> Path:
    for length in range(len(parts), 0, -1):
        mounted = mounts.get("/".join(("", *parts[:length])))
        if mounted is not None:
            return mounted.joinpath(*parts[length:])
    return root.joinpath(*parts)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]
