"""The one place where files are written so that they survive a crash or a power loss.

Whole files: a temporary file in the same directory, write, fsync, rename, fsync of the
directory. A reader sees the old file or the new one, never a part. Logs and journals:
append, fsync. Everything else that must last calls ``flush`` and ``publish``.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from harness.core.ids import new_nonce

PART_SUFFIX = ".part"
"""Files that end so are unfinished and may be deleted or continued by their writer only."""


def write(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Replace ``path`` by a file that holds ``data``. ``mode`` is the POSIX mode of a new file, before the umask."""
    temporary = path.with_name(f".{path.name}.{new_nonce()}{PART_SUFFIX}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            flush(file.fileno())
        publish(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def create(path: Path, data: bytes, *, mode: int = 0o666) -> bool:
    """Like ``write``, but only when ``path`` does not exist; False when it does. Of two racing callers one wins."""
    temporary = path.with_name(f".{path.name}.{new_nonce()}{PART_SUFFIX}")
    write(temporary, data, mode=mode)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links: the name is claimed first, then filled
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
        except FileExistsError:
            return False
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    flush_directory(path.parent)
    return True


def append(path: Path, data: bytes) -> None:
    """Add ``data`` to the end of ``path`` (created when missing) and wait until the disk has it."""
    new = not path.exists()
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        flush(file.fileno())
    if new:
        flush_directory(path.parent)


def publish(temporary: Path, final: Path) -> None:
    """Give a flushed file its final name in the same directory, replacing what was there: the commit point."""
    _writable_for_windows(final)
    os.replace(temporary, final)  # noqa: PTH105 - the call whose atomicity is relied upon, spelled out
    flush_directory(final.parent)


def remove(path: Path) -> None:
    """Delete a file if there is one, a read-only one too."""
    _writable_for_windows(path)
    path.unlink(missing_ok=True)


def _writable_for_windows(path: Path) -> None:
    """Windows neither deletes a read-only file nor renames onto one."""
    if sys.platform == "win32" and path.is_file():
        path.chmod(0o666)


def flush(descriptor: int) -> None:
    """Wait until the disk has an open file's data.

    macOS: fsync leaves data in the drive's cache, F_FULLFSYNC does not (fsync(2) of macOS);
    file systems that lack it fall back to fsync.
    """
    if sys.platform == "darwin":
        import fcntl  # noqa: PLC0415 - POSIX only

        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    elif sys.platform == "linux":
        os.fdatasync(descriptor)
        return
    os.fsync(descriptor)


def flush_directory(directory: Path) -> None:
    """Wait until the disk has a directory's entries; Windows has no such call, its rename is journaled by NTFS."""
    if sys.platform == "win32":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
