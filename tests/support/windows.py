"""What Windows refuses that POSIX allows, on this machine.

To delete a read-only file, to rename onto one, and to rename a file that is open here.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path

import pytest


def behave_like_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse what Windows refuses, and say that this is Windows."""
    replace, unlink = os.replace, Path.unlink

    def refuse(path: Path) -> None:
        if path.is_file() and not path.stat().st_mode & stat.S_IWUSR:
            raise PermissionError(13, "Access is denied", str(path))

    def careful_replace(source: Path, target: Path) -> None:
        refuse(Path(target))
        if _is_open(source):
            raise PermissionError(13, "The process cannot access the file", str(source))
        replace(source, target)

    def careful_unlink(path: Path, missing_ok: bool = False) -> None:
        refuse(path)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(os, "replace", careful_replace)
    monkeypatch.setattr(Path, "unlink", careful_unlink)
    monkeypatch.setattr(sys, "platform", "win32")


def _is_open(path: Path) -> bool:
    wanted = path.stat()
    for descriptor in Path("/dev/fd").iterdir():
        with contextlib.suppress(OSError):  # the one of the listing itself
            if os.path.samestat(os.fstat(int(descriptor.name)), wanted):
                return True
    return False
