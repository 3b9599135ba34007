"""Opens a file that somebody else may have put there: a pipe, a device or a socket at its path hangs nobody."""

from __future__ import annotations

import errno
import os
import stat
from io import FileIO
from pathlib import Path


def opened(path: Path) -> FileIO:
    """A regular file, or a link to one, open for reading and not buffered. Raises OSError for anything else.

    Opening does not wait (O_NONBLOCK, which says nothing to a regular file), and what was opened is looked at: not a
    name that may lead elsewhere a moment later.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return FileIO(descriptor, "rb")
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is not a file that holds bytes", str(path))
