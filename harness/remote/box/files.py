"""Questions about files. Relative paths start at HOME, ``~`` expands. A missing file is an answer, not a problem."""

# The box may have Python 3.8: typing's old names; and os.path throughout, as strings are what crosses the wire.
# ruff: noqa: PTH100, PTH110, PTH111, PTH112, PTH114, PTH116, PTH118, PTH120, PTH123, PTH208
from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import shutil
import stat as modes
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

LINE_LIMIT = 4000
BLOCK = 1 << 20
MATCHES = 1000
TREE_FILES = 20000


def expand(path: str) -> str:
    """The path on this machine."""
    return os.path.expanduser(path)


def glob(pattern: str) -> Any:
    """Entries that match a pattern, sorted: ``[{path, kind, bytes, mtime, is_symlink}]``.

    In it ``*`` and ``?`` match, but never a ``/``; every other character is itself. Links are followed. An unreadable
    directory is a problem, unlike with Python's own glob.
    """
    head = "/" if pattern.startswith("/") else ""
    found = [head]
    for part in [part for part in pattern.split("/") if part]:
        step: list[str] = []
        for base in found:
            step.extend(_matching(base, part))
            if len(step) > MATCHES:
                raise ValueError(f"more than {MATCHES} entries match {pattern}")
        found = step
    return [_entry(path) for path in sorted(found)]


def _entry(path: str) -> Any:
    link = modes.S_ISLNK(os.lstat(expand(path)).st_mode)
    return {"path": path, "is_symlink": link, **_described(os.stat(expand(path)))}


def _matching(base: str, part: str) -> Iterator[str]:
    if not re.search(r"[*?]", part):
        path = os.path.join(base, part)
        try:
            os.lstat(expand(path))
        except (FileNotFoundError, NotADirectoryError):
            return
        yield path
        return
    try:
        names = os.listdir(expand(base) or ".")
    except (FileNotFoundError, NotADirectoryError):
        return
    pattern = part.replace("[", "[[]")
    for name in names:
        if fnmatch.fnmatchcase(name, pattern) and (not name.startswith(".") or part.startswith(".")):
            yield os.path.join(base, name)


def sha256(path: str) -> Any:
    """``{exists, bytes, sha256}``; a file that changes while it is read is a problem."""
    try:
        file = open(expand(path), "rb", buffering=0)  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return {"exists": False}
    with file:
        before = os.fstat(file.fileno())
        digest = hashlib.sha256()
        block = bytearray(BLOCK)
        view = memoryview(block)
        while True:
            size = file.readinto(block)
            if not size:
                break
            digest.update(view[:size])
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ValueError("the file changed while it was read")
    return {"exists": True, "bytes": after.st_size, "sha256": digest.hexdigest()}


def tree(path: str, digests: Any = (), without: str = "") -> Any:
    """Everything below a directory that is not one: ``{exists, entries: [{path, kind, bytes, mtime, sha256?}]}``.

    Paths are relative to the directory. Links are listed as links, never followed. ``digests`` names the
    files that are hashed: others may be written to meanwhile. ``without`` is a folder in it that is left out.
    """
    root = expand(path)
    if not os.path.isdir(root):
        return {"exists": False, "entries": []}
    hashed = frozenset(digests)
    entries = []
    for folder, folders, names in os.walk(root, onerror=_raise_unless_gone):
        if folder == root:
            folders[:] = [name for name in folders if name != without]
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in [*names, *links]:
            full = os.path.join(folder, name)
            try:
                seen = _described(os.lstat(full))
            except FileNotFoundError:
                continue  # since the directory was read
            entry = {"path": os.path.relpath(full, root), **seen}
            if entry["path"] in hashed and seen["kind"] == "file":
                entry["sha256"] = sha256(full)["sha256"]
            entries.append(entry)
            if len(entries) > TREE_FILES:
                raise ValueError(f"more than {TREE_FILES} files below {path}")
    return {"exists": True, "entries": sorted(entries, key=lambda entry: entry["path"])}


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def read_text(path: str, limit: int) -> Any:
    """``{exists, bytes, text, truncated}``: the first ``limit`` bytes, undecodable ones replaced."""
    try:
        with open(expand(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(limit + 1)
    except FileNotFoundError:
        return {"exists": False}
    text = data[:limit].decode("utf-8", "replace")
    return {"exists": True, "bytes": size, "text": text, "truncated": len(data) > limit}


def tail(path: str, lines: int, limit: int) -> Any:
    """``{exists, bytes, mtime, lines}``: the last lines within the last ``limit`` bytes, without their newlines."""
    try:
        with open(expand(path), "rb") as file:
            seen = os.fstat(file.fileno())
            file.seek(max(0, seen.st_size - limit))
            text = file.read(limit).decode("utf-8", "replace")
    except FileNotFoundError:
        return {"exists": False}
    found = text.split("\n")
    if not found[-1]:
        found.pop()
    return {"exists": True, "bytes": seen.st_size, "mtime": seen.st_mtime, "lines": found[-lines:]}


def lines(path: str, start: int, limit: int) -> Any:
    """``{exists, bytes, end, lines}``: the whole lines from byte ``start`` on, within ``limit`` bytes.

    ``end`` is the byte behind them, to go on from. A negative ``start`` counts from the end of the file, and the line
    that it falls into is left out. A line longer than ``limit`` is told in pieces, or it would never be passed.
    """
    try:
        with open(expand(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            begin = start if start >= 0 else max(0, size + start)
            file.seek(begin)
            data = file.read(limit)
    except FileNotFoundError:
        return {"exists": False}
    if start < 0 and begin > 0:
        torn = data.find(b"\n") + 1
        begin, data = begin + torn, data[torn:]
    whole = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1  # a progress bar redraws itself with the latter
    if not whole and len(data) == limit:
        whole = limit
    text = data[:whole].decode("utf-8", "replace")
    found = text.split("\n")
    if not found[-1]:
        found.pop()
    return {"exists": True, "bytes": size, "end": begin + whole, "lines": found}


def grep(path: str, pattern: str, last: int) -> Any:
    """``{exists, bytes, count, matches: [{line, text}]}``: the last lines where a regular expression is found.

    ``count`` counts all. Lines count from 1.
    """
    search = re.compile(pattern).search
    kept: Any = deque(maxlen=last)
    count = 0
    try:
        with open(expand(path), "rb") as file:
            for number, line in _numbered(file):
                if search(line):
                    count += 1
                    kept.append({"line": number, "text": line})
            size = file.tell()
    except FileNotFoundError:
        return {"exists": False}
    return {"exists": True, "bytes": size, "count": count, "matches": list(kept)}


def _numbered(file: Any) -> Iterator[Any]:
    """Lines with their numbers; of an overlong line only its beginning."""
    number = 1
    beginning = True
    while True:
        piece = file.readline(BLOCK)
        if not piece:
            return
        if beginning:
            yield number, piece[:LINE_LIMIT].decode("utf-8", "replace").rstrip("\r\n")
        beginning = piece.endswith(b"\n")
        number += beginning


def disk(path: str) -> Any:
    """``{total, used, free}`` bytes of the file system that holds ``path`` or its nearest existing parent."""
    place = os.path.abspath(expand(path))
    while not os.path.exists(place):
        place = os.path.dirname(place)
    usage = shutil.disk_usage(place)
    return {"total": usage.total, "used": usage.used, "free": usage.free}


def now() -> Any:
    """``{time}``: the box's clock, seconds since the epoch, to compare times of files with."""
    return {"time": time.time()}


def _described(seen: os.stat_result) -> Any:
    kinds = ((modes.S_ISREG, "file"), (modes.S_ISDIR, "dir"), (modes.S_ISLNK, "link"))
    kind = next((name for test, name in kinds if test(seen.st_mode)), "other")
    return {"kind": kind, "bytes": seen.st_size, "mtime": seen.st_mtime}
