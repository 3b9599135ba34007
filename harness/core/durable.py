"""The one place where files are written so that they survive a crash or a power loss.

Whole files: a temporary file in the same directory, write, fsync, rename, fsync of the
directory. A reader sees the old file or the new one, never a part. Logs and journals:
append, fsync. Everything else that must last calls ``flush`` and ``publish``.

Temporary files are named ``.NAME.NONCE.part`` and locked by their writer. Whoever writes into a directory
first deletes those whose writer died: what they hold, a private key perhaps, stays nowhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import sys
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from harness.core.ids import new_nonce

PART_SUFFIX = ".part"
"""Files that end so are unfinished and may be deleted or continued by their writer only."""

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}" + re.escape(PART_SUFFIX))
_BLOCK = 4 << 20
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})


def write(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Replace ``path`` by a file that holds ``data``. ``mode`` is the POSIX mode of a new file, before the umask."""
    with _temporary(path, mode) as (file, temporary):
        file.write(data)
        _take_place(file, temporary, path)


def copy(source: FileIO, path: Path) -> None:
    """Replace ``path`` by a file that holds all the bytes of an open one."""
    source.seek(0)
    with _temporary(path, 0o666) as (file, temporary):
        shutil.copyfileobj(source, file, _BLOCK)
        _take_place(file, temporary, path)


def create(path: Path, data: bytes, *, mode: int = 0o666) -> bool:
    """Like ``write``, but only when ``path`` does not exist; False when it does. Of two racing callers one wins."""
    with _temporary(path, mode) as (file, temporary):
        file.write(data)
        file.flush()
        flush(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links: the name is claimed first, then filled
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
            except FileExistsError:
                return False
            _take_place(file, temporary, path)
    flush_directory(path.parent)
    return True


@contextlib.contextmanager
def _temporary(final: Path, mode: int) -> Iterator[tuple[BinaryIO, Path]]:
    """A temporary file beside ``final``, locked while it is open, and deleted in the end unless it took its place."""
    _sweep(final.parent)
    while True:
        path = final.with_name(f".{final.name}.{new_nonce()}{PART_SUFFIX}")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        if _locked(descriptor, path, without_locks=True):
            break
        os.close(descriptor)  # swept before it could be locked
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file, path
    finally:
        path.unlink(missing_ok=True)


def _take_place(file: BinaryIO, temporary: Path, final: Path) -> None:
    file.flush()
    flush(file.fileno())
    if sys.platform == "win32":  # where an open file cannot be renamed
        file.close()
    publish(temporary, final)


def refusal(folder: Path) -> str | None:
    """Reason why nothing can be written to a folder that is there or is to be made; None when something can."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return f"nothing can be written to {place}: it is no folder"
    return None if os.access(place, os.W_OK | os.X_OK) else f"nothing can be written to {place}: it is read-only"


def unfinished(final: Path) -> tuple[Path, ...]:
    """Everything that unfinished writing of ``final`` has beside it, whether its writer lives or not."""
    part = final.name + PART_SUFFIX
    family = {part, f"{part}.journal", f"{part}.lock"}
    found = []
    for path in final.parent.iterdir() if final.parent.is_dir() else ():
        temporary = _TEMPORARY.fullmatch(path.name)
        if path.name in family or (temporary is not None and temporary["name"] in {final.name, *family}):
            found.append(path)
    return tuple(sorted(found))


def sweep(final: Path) -> None:
    """Delete what is left beside a finished file of the writing of it, as far as no living process holds it."""
    if not unfinished(final):
        return
    with sole_writer(final) as alone:
        for path in unfinished(final) if alone else ():
            if path.suffix in {PART_SUFFIX, ".journal"} and _TEMPORARY.fullmatch(path.name) is None:
                remove(path)
    _sweep(final.parent)


@contextlib.contextmanager
def sole_writer(final: Path) -> Iterator[bool]:
    """Hold the lock on ``final``'s unfinished bytes, which the system releases when its holder dies.

    False when another process holds it. The lock file is deleted while it is locked: a process that opened it before
    finds that out and locks anew.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 - few commands lock anything

    lock = FileLock(final.with_name(f"{final.name}{PART_SUFFIX}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        try:
            with contextlib.suppress(PermissionError):  # Windows: filelock itself deletes it once it is closed
                Path(lock.lock_file).unlink(missing_ok=True)
        finally:
            lock.release()


def _sweep(directory: Path) -> None:
    """Delete the temporary files in a directory whose writers died."""
    for path in directory.glob(f".*{PART_SUFFIX}"):
        if _TEMPORARY.fullmatch(path.name) is None:
            continue
        with contextlib.suppress(OSError):  # gone by now, or Windows: open in another process
            if sys.platform == "win32":
                remove(path)
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
            try:
                if _locked(descriptor, path, without_locks=False):
                    path.unlink()
            finally:
                os.close(descriptor)


def _locked(descriptor: int, path: Path, *, without_locks: bool) -> bool:
    """Lock an open file; False when another holds it, or its name is another's by now. Windows locks what is open.

    ``without_locks`` is the answer on a file system that knows none, as some network ones: a file is written there all
    the same, and one whose writer may live is left alone.
    """
    if sys.platform == "win32":
        return True
    import fcntl  # noqa: PLC0415 - POSIX only

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return without_locks


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
