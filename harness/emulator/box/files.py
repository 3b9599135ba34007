"""SFTP and scp into a box: its root is their root, and no link leads out of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import asyncssh
from asyncssh.misc import MaybeAwait

from harness.emulator.box.disk import BoxDisk
from harness.emulator.box.paths import resolve, within
from harness.emulator.box.throttle import Cut, Throttle

HOME = "/root"


class BoxFiles(asyncssh.SFTPServer):
    """asyncssh's SFTP server, kept inside one box. Inheritance is how asyncssh takes one."""

    def __init__(
        self,
        chan: asyncssh.SSHServerChannel[bytes],
        disk: BoxDisk,
        throttle: Throttle,
        received: Callable[[int], None],
    ) -> None:
        layout = disk.container.layout
        super().__init__(chan, chroot=os.fsencode(layout.root))
        self._root = layout.root.resolve()
        self._mounts = layout.mounts()
        self._disk = disk
        self._throttle = throttle
        self._received = received

    def map_path(self, path: bytes) -> bytes:
        """Where a path lies, the last link followed."""
        return os.fsencode(self._at(path, follow_last=True))

    def realpath(self, path: bytes) -> bytes:
        """The path as the client should name it."""
        return os.fsencode("/" + "/".join(within(self._root, _absolute(path), mounts=self._mounts)))

    def lstat(self, path: bytes) -> os.stat_result:
        """Look at a link itself."""
        return self._at(path).lstat()

    def remove(self, path: bytes) -> None:
        """Remove a file or a link."""
        self._at(path).unlink()

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename; an existing target is an error (SFTP version 3)."""
        target = self._at(newpath)
        if os.path.lexists(target):
            raise asyncssh.SFTPFailure("File already exists")
        self._at(oldpath).rename(target)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename over whatever is there."""
        self._at(oldpath).replace(self._at(newpath))

    def readlink(self, path: bytes) -> bytes:
        """Target of a link, as it was written on the box."""
        return os.fsencode(self._at(path).readlink())

    def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        """Write a link as it was asked for; it is resolved inside the box only."""
        self._at(newpath).symlink_to(os.fsdecode(oldpath))

    async def read(self, file_obj: object, offset: int, size: int) -> bytes:
        """Read, and let the scenario spoil it."""
        data = super().read(file_obj, offset, size)
        try:
            return await self._throttle.pass_on(data if isinstance(data, bytes) else await data)
        except Cut:
            self.connection.abort()
            raise asyncssh.SFTPConnectionLost("cut") from None

    def write(self, file_obj: object, offset: int, data: bytes) -> MaybeAwait[int]:
        """Write, while there is room on the disk."""
        if len(data) > self._disk.size - self._disk.used:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._received(len(data))
        self._disk.used += len(data)
        return super().write(file_obj, offset, data)

    def exit(self) -> None:
        """Say how it ended: without a status OpenSSH's scp calls a good copy a failure."""
        self.channel.exit(0)

    def _at(self, path: bytes, *, follow_last: bool = False) -> Path:
        return resolve(self._root, _absolute(path), follow_last=follow_last, mounts=self._mounts)


def _absolute(path: bytes) -> str:
    name = os.fsdecode(path)
    return name if name.startswith("/") else f"{HOME}/{name}"
