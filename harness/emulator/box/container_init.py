"""The first process of a box: it gives the box its own root, starts onstart, and buries the dead.

It runs alone (``python -I -S container_init.py SPEC``), standard library only, as
process 1 of new user, mount and process namespaces made by util-linux's ``unshare``.
When it ends, the kernel ends every process of the box.

SPEC is JSON: root (directory), read_only (list of paths shown in the box), own (pairs
of a box path and the directory shown there), home (str), command (list: onstart), env
(object), ready (file written with this process's number as seen from outside).
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

MS_RDONLY, MS_NOSUID, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 32, 4096, 16384, 1 << 18

DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts")
"""Devices that a box shares with this machine; its ``/dev/shm`` is its own."""

KEPT_FLAGS = {1: 1, 2: 2, 4: 4, 8: 8, 1024: 1024, 2048: 2048, 4096: 1 << 21}
"""statvfs flag -> mount flag (ro, nosuid, nodev, noexec, noatime, nodiratime, relatime)."""

LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")

LOOK_S = 1.0
"""How often it is looked whether the box's directory is still there, in seconds."""

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: Path | str, kind: str, flags: int) -> None:
    """Mount a file system; raises OSError."""
    if _libc.mount(source.encode(), str(target).encode(), kind.encode(), ctypes.c_ulong(flags), None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def bind(source: Path, target: Path, *, read_only: bool) -> None:
    """Show a path of this machine in the box."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    mount(str(source), target, "", MS_BIND | MS_REC)
    if read_only:
        # A remount in a user namespace must repeat the flags that are set (mount_namespaces(7)).
        kept = sum(flag for bit, flag in KEPT_FLAGS.items() if os.statvfs(target).f_flag & bit)
        mount("", target, "", MS_REMOUNT | MS_BIND | MS_RDONLY | kept)


def make_devices(place: Path) -> None:
    """This machine's ``/dev``, of which only harmless devices and the terminals are left; disks are hidden.

    The directory itself must be the machine's own: ``ptmx`` finds its terminals beside it (devpts(5)).
    """
    bind(Path("/dev"), place, read_only=False)
    for entry in sorted(place.iterdir()):
        if entry.name in DEVICES or entry.is_symlink():
            continue
        if entry.is_dir():
            mount("tmpfs", entry, "tmpfs", MS_NOSUID)
        elif entry.is_block_device() or entry.is_char_device():
            mount("/dev/null", entry, "", MS_BIND)


def enter(spec: dict[str, Any]) -> None:
    """Make the box's root the root."""
    root = Path(spec["root"])
    mount("", "/", "", MS_REC | MS_PRIVATE)
    mount(str(root), root, "", MS_BIND | MS_REC)
    for name in LINKS:
        ours, host = root / name, Path("/", name)
        if host.is_symlink():
            if not ours.is_symlink():
                ours.symlink_to(host.readlink())
        elif host.is_dir():
            bind(host, ours, read_only=True)
    for path in spec["read_only"]:
        bind(Path(path), root / path.lstrip("/"), read_only=True)
    make_devices(root / "dev")
    for path, source in spec["own"]:
        place = root / path.lstrip("/")
        if place.is_dir():
            mount(source, place, "", MS_BIND)
    (root / "proc").mkdir(exist_ok=True)
    mount("proc", root / "proc", "proc", 0)
    os.chroot(root)
    os.chdir(spec["home"])


def main() -> int:
    """Enter, report, start onstart, and reap for ever."""
    spec = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    outside = str(Path("/proc/self").readlink())  # the old /proc still counts in the outer namespace
    ready = os.open(spec["ready"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        enter(spec)
    except OSError as error:
        os.write(ready, f"failed: {error}".encode())
        return 1
    os.umask(0o022)
    if os.fork() == 0:
        os.setsid()
        os.execvpe(spec["command"][0], spec["command"], spec["env"])  # noqa: S606  # no shell between
    os.write(ready, outside.encode())
    os.close(ready)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # only now: onstart must not inherit it
    while Path("/").stat().st_nlink:  # nothing links to it when the box's directory was removed: nobody wants the box
        reap()
        signal.sigtimedwait({signal.SIGCHLD}, LOOK_S)
    return 0


def reap() -> None:
    """Bury every process that has ended; orphans are given to process 1."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return


if __name__ == "__main__":
    sys.exit(main())
