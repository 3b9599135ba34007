"""A disk that loses at a power failure what was not flushed: bytes without their fsync, names without their folder's.

The files are real. What is durable is noted at each fsync; at the failure the folder is put back to that, or to
anything between that and what the operating system had shown. A folder's fsync makes its own name durable, too, as
journaling file systems do.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path


class Loss(StrEnum):
    """Loss at a power failure."""

    ALL = "names and bytes that were not flushed"
    BYTES = "bytes alone: a new name, and nothing behind it"
    HALVES = "half of the bytes that were not flushed"
    NAMES = "names alone"
    ANY = "of each folder and file something else"


_Entries = dict[str, int | None]
"""Names in a folder: the inode of a file, None for a folder."""


class PowerDisk:
    """Everything under ``root`` as it would be found after a power failure."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._bytes: dict[int, bytes] = {}
        self._names: dict[Path, _Entries] = {}
        self._held: dict[int, int] = {}
        self.settle()

    def settle(self) -> None:
        """Make all that is there now durable."""
        self.close()
        for folder, _, files in os.walk(self.root):
            self._note_folder(Path(folder))
            for name in files:
                self._note_bytes(Path(folder) / name)

    def close(self) -> None:
        """Let go of the inodes that were held, so that none of their numbers was given to another file."""
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held, self._bytes, self._names = {}, {}, {}

    def synced(self, descriptor: int) -> None:
        """An open file or folder has been flushed."""
        path = Path(f"/proc/self/fd/{descriptor}")
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            self._note_folder(path.readlink())
        else:
            self._note_bytes(path)

    def _note_bytes(self, path: Path) -> None:
        self._bytes[self._hold(path)] = path.read_bytes()

    def _note_folder(self, folder: Path) -> None:
        found = list(os.scandir(folder))
        self._names[folder] = {one.name: None if one.is_dir() else self._hold(Path(one.path)) for one in found}
        while folder != self.root:
            self._names.setdefault(folder.parent, {})[folder.name] = None
            folder = folder.parent

    def _hold(self, path: Path) -> int:
        inode = path.stat().st_ino
        if inode not in self._held:
            self._held[inode] = os.open(path, os.O_RDONLY)
        return inode

    def fail(self, loss: Loss, seed: int = 0) -> None:
        """The power fails; afterwards the folder is as it is found when it is back."""
        dice = random.Random(seed)
        tree: dict[Path, int] = {}
        folders: list[Path] = []
        now: Mapping[int, tuple[bytes, int]] = self._all_now()
        old_names: Callable[[], bool] = {
            Loss.ALL: lambda: True,
            Loss.NAMES: lambda: True,
            Loss.ANY: lambda: dice.random() < 0.5,
        }.get(loss, lambda: False)
        pending = [self.root]
        while pending:
            folder = pending.pop()
            folders.append(folder)
            names = self._names.get(folder, {}) if old_names() else self._shown(folder)
            for name, inode in names.items():
                if inode is None:
                    pending.append(folder / name)
                else:
                    tree[folder / name] = inode
        found = {path: self._bytes_after(loss, inode, now, dice) for path, inode in tree.items()}
        modes = {path: now[inode][1] if inode in now else 0o644 for path, inode in tree.items()}
        shutil.rmtree(self.root)
        for folder in sorted(folders):
            folder.mkdir(parents=True)
        first: dict[int, Path] = {}
        for path, inode in tree.items():
            if inode in first:
                os.link(first[inode], path)
                continue
            first[inode] = path
            path.write_bytes(found[path])
            path.chmod(modes[path])
        self.settle()

    def _shown(self, folder: Path) -> _Entries:
        if not folder.is_dir():
            return {}
        return {one.name: None if one.is_dir() else one.stat().st_ino for one in os.scandir(folder)}

    def _all_now(self) -> dict[int, tuple[bytes, int]]:
        now = {}
        for inode, descriptor in self._held.items():
            path = Path(f"/proc/self/fd/{descriptor}")
            now[inode] = path.read_bytes(), stat.S_IMODE(os.fstat(descriptor).st_mode)
        for folder, _, files in os.walk(self.root):
            for name in files:
                path = Path(folder) / name
                now[path.stat().st_ino] = path.read_bytes(), stat.S_IMODE(path.stat().st_mode)
        return now

    def _bytes_after(self, loss: Loss, inode: int, now: Mapping[int, tuple[bytes, int]], dice: random.Random) -> bytes:
        durable, shown = self._bytes.get(inode, b""), now[inode][0]
        match loss:
            case Loss.NAMES:
                return shown
            case Loss.HALVES:
                return shown if shown == durable else shown[: len(shown) // 2]
            case Loss.ANY:
                return dice.choice([durable, shown, shown if shown == durable else shown[: len(shown) // 2]])
            case _:
                return durable
