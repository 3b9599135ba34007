"""The first process of a box: it gives the box its own root, starts onstart, and buries the dead.

It runs alone (``python -I -S container_init.py SPEC``), standard library only, as
process 1 of new user, mount and process namespaces made by util-linux's ``unshare``.
When it ends, the kernel ends every process of the box.

SPEC is JSON: root (directory), read_only (list), writable (list), hidden (list),
own (pairs of a box path and the directory shown there),
env (object), home (str), command (list: onstart), ready (file written with this
process's number as seen from outside).
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys

MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str, flags: int) -> None:
    """mount(2); raises OSError."""
    if _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def flags_of(target: str) -> int:
    """The flags of the mount that holds a path: a remount in a user namespace must repeat them (mount_namespaces(7))."""
    stat = os.statvfs(target)
    known = {1: 1, 2: 2, 4: 4, 8: 8, 1024: 1024, 2048: 2048, 4096: 1 << 21}
    return sum(flag for bit, flag in known.items() if stat.f_flag & bit)


def bind(source: str, root: str, *, read_only: bool) -> None:
    """Show a path of this machine at the same place in the box."""
    target = root + source
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "a", encoding="utf-8"):
            pass
    mount(source, target, "", MS_BIND | MS_REC)
    if read_only:
        mount("", target, "", MS_REMOUNT | MS_BIND | MS_RDONLY | flags_of(target))


def enter(spec: dict[str, object]) -> None:
    """Make the box's root the root."""
    root = str(spec["root"])
    mount("", "/", "", MS_REC | MS_PRIVATE)
    mount(root, root, "", MS_BIND | MS_REC)
    for link in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        host, ours = f"/{link}", f"{root}/{link}"
        if os.path.islink(host):
            if not os.path.lexists(ours):
                os.symlink(os.readlink(host), ours)
        elif os.path.isdir(host):
            bind(host, root, read_only=True)
    for path in spec["read_only"]:  # type: ignore[attr-defined]  # a list, written by the emulator
        bind(path, root, read_only=True)
    for path in spec["writable"]:  # type: ignore[attr-defined]  # a list, written by the emulator
        bind(path, root, read_only=False)
    for path, source in spec["own"]:  # type: ignore[attr-defined]  # a list, written by the emulator
        if os.path.isdir(root + path):
            mount(source, root + path, "", MS_BIND)
    os.makedirs(f"{root}/proc", exist_ok=True)
    mount("proc", f"{root}/proc", "proc", 0)
    os.chroot(root)
    os.chdir(str(spec["home"]))


def main() -> int:
    """Enter, report, start onstart, and reap for ever."""
    with open(sys.argv[1], encoding="utf-8") as file:
        spec = json.load(file)
    outside = os.readlink("/proc/self")  # the old /proc still counts in the outer namespace
    ready = os.open(spec["ready"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.set_inheritable(ready, False)
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
    while True:
        reap()
        signal.sigwait({signal.SIGCHLD})


def reap() -> None:
    """Bury every process that has ended; orphans are given to process 1."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return


if __name__ == "__main__":
    sys.exit(main())
