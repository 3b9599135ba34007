"""Paths as the box means them, resolved on this machine without ever leaving the box.

A link on the box may point anywhere, absolute or upwards: it is followed as it
would be inside the box, where ``/`` is the box's root.
"""

from __future__ import annotations

import os
import posixpath

_MAX_LINKS = 40


def resolve(root: bytes, path: bytes, *, follow_last: bool = True) -> bytes:
    """Where a path of the box lies on this machine; raises OSError (ELOOP) on a circle of links."""
    todo = [part for part in path.split(b"/") if part]
    done: list[bytes] = []
    links = 0
    while todo:
        part = todo.pop(0)
        if part == b".":
            continue
        if part == b"..":
            done = done[:-1]
            continue
        here = posixpath.join(root, *done, part)
        if os.path.islink(here) and (todo or follow_last):
            links += 1
            if links > _MAX_LINKS:
                raise OSError(40, "too many levels of symbolic links", path)
            target = os.readlink(here)
            if target.startswith(b"/"):
                done = []
            todo = [piece for piece in target.split(b"/") if piece] + todo
            continue
        done.append(part)
    return posixpath.join(root, *done)
