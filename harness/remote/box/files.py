"""Questions about files. Relative paths start at HOME, ``~`` expands. A missing file is an answer, not a problem."""

# The box may have Python 3.8: typing's old names; and os.path throughout, as strings are what crosses the wire.
# ruff: noqa: PTH100, PTH110, PTH111, PTH112, PTH114, PTH116, PTH118, PTH120, PTH123, PTH208
from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
import shutil
import stat as modes
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

LINE_LIMIT = 4000
BLOCK = 1 << 20


def expand(path: str) -> str:
    """The path on this machine."""
    return os.path.expanduser(path)


def stat(path: str) -> Any:
    """``{exists, kind, bytes, mtime, is_symlink}``; a link is followed, a dangling one does not exist."""
    try:
        link = modes.S_ISLNK(os.lstat(expand(path)).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return {"exists": False, "is_symlink": False}
    try:
        seen = os.stat(expand(path))
    except FileNotFoundError:
        return {"exists": False, "is_symlink": link}
    return {"exists": True, "is_symlink": link, **_described(seen)}


def glob(pattern: str, limit: int = 1000) -> Any:
    """Entries that match a shell pattern (no ``**``), sorted: ``[{path, kind, bytes, mtime, is_symlink}]``.

    An unreadable directory is a problem, unlike with Python's own glob.
    """
    head = "/" if pattern.startswith("/") else ""
    found = [head]
    for part in [part for part in pattern.split("/") if part]:
        step: list[str] = []
        for base in found:
            step.extend(_matching(base, part))
            if len(step) > limit:
                raise ValueError(f"more than {limit} entries match {pattern}")
        found = step
    return [{"path": path, **{k: v for k, v in stat(path).items() if k != "exists"}} for path in sorted(found)]


def _matching(base: str, part: str) -> Iterator[str]:
    if not re.search(r"[*?\[]", part):
        path = os.path.join(base, part)
        if os.path.lexists(expand(path)):
            yield path
        return
    try:
        names = os.listdir(expand(base) or ".")
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if fnmatch.fnmatchcase(name, part) and (not name.startswith(".") or part.startswith(".")):
            yield os.path.join(base, name)


def sha256(path: str) -> Any:
    """``{exists, bytes, mtime, sha256}``; a file that changes while it is read is a problem."""
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
    return {"exists": True, "bytes": after.st_size, "mtime": after.st_mtime, "sha256": digest.hexdigest()}


def tree(path: str, digests: Any = (), without: str = "", limit: int = 20000) -> Any:
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
            if len(entries) > limit:
                raise ValueError(f"more than {limit} files below {path}")
    return {"exists": True, "entries": sorted(entries, key=lambda entry: entry["path"])}


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def read_text(path: str, limit: int = 1 << 16) -> Any:
    """``{exists, bytes, text, truncated}``: the first ``limit`` bytes, undecodable ones replaced."""
    try:
        with open(expand(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(limit + 1)
    except FileNotFoundError:
        return {"exists": False}
    text = data[:limit].decode("utf-8", "replace")
    return {"exists": True, "bytes": size, "text": text, "truncated": len(data) > limit}


def read_json(path: str, limit: int = 1 << 20) -> Any:
    """``{exists, bytes, json}``; NaN and infinities come as the strings ``NaN``, ``Infinity``, ``-Infinity``."""
    found = read_text(path, limit)
    if not found["exists"]:
        return found
    if found["truncated"]:
        raise ValueError(f"larger than {limit} bytes")
    return {"exists": True, "bytes": found["bytes"], "json": json.loads(found["text"], parse_constant=str)}


def tail(path: str, lines: int = 20, limit: int = 1 << 16) -> Any:
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


def grep(path: str, pattern: str, first: int = 0, last: int = 0) -> Any:
    """``{exists, bytes, count, matches: [{line, text}]}``: lines where a regular expression is found.

    ``first`` or ``last`` bound what is returned (20 last by default); ``count`` counts all. Lines count from 1.
    """
    search = re.compile(pattern).search
    kept: Any = [] if first else deque(maxlen=last or 20)
    count = 0
    try:
        with open(expand(path), "rb") as file:
            for number, line in _numbered(file):
                if search(line):
                    count += 1
                    if not first or len(kept) < first:
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


def log_growth(path: str, ms: int = 1000) -> Any:
    """``{exists, before, after}``: a file's size now and after ``ms`` milliseconds."""
    try:
        before = os.stat(expand(path)).st_size
        time.sleep(ms / 1000.0)
        return {"exists": True, "before": before, "after": os.stat(expand(path)).st_size}
    except FileNotFoundError:
        return {"exists": False}


def disk(path: str = "~") -> Any:
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


OPERATIONS: dict[str, Callable[..., Any]] = {
    "stat": stat,
    "glob": glob,
    "sha256": sha256,
    "tree": tree,
    "read_text": read_text,
    "read_json": read_json,
    "tail": tail,
    "grep": grep,
    "log_growth": log_growth,
    "disk": disk,
    "now": now,
}
