"""The three commands that the service runs on a disk whose container may be stopped: ls, du and rm."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from harness.emulator.box.disk import used_bytes
from harness.emulator.box.layout import Layout
from harness.emulator.box.paths import resolve
from harness.emulator.refusal import invalid

MAX_COMMAND = 512
MAX_NAMES = 10_000


def run(layout: Layout, line: str) -> str:
    """Run a command and return its output; refuses any other command, and relative paths."""
    if len(line) > MAX_COMMAND:
        raise invalid(f"command is longer than {MAX_COMMAND} characters")
    try:
        verb, *words = shlex.split(line)
    except ValueError:
        raise invalid("command cannot be read") from None
    paths = [word for word in words if not word.startswith("-")]
    options = "".join(word for word in words if word.startswith("-"))
    if verb not in {"ls", "du", "rm"} or not all(path.startswith("/") for path in paths):
        raise invalid("Invalid command given: only ls, du and rm with absolute paths")
    act = {"ls": _ls, "du": _du, "rm": _rm}[verb]
    return "".join(act(layout, path, options) for path in paths or ["/"])


def _ls(layout: Layout, path: str, options: str) -> str:
    where = _on_disk(layout, path)
    if not where.exists():
        return f"ls: cannot access '{path}': No such file or directory\n"
    entries = sorted(where.iterdir())[:MAX_NAMES] if where.is_dir() else [where]
    if "l" not in options:
        return "".join(f"{entry.name}\n" for entry in entries)
    return "".join(f"{entry.lstat().st_size:>14} {entry.name}\n" for entry in entries)


def _du(layout: Layout, path: str, options: str) -> str:
    del options
    return f"{used_bytes(_on_disk(layout, path)) // 1024}\t{path}\n"


def _rm(layout: Layout, path: str, options: str) -> str:
    where = _on_disk(layout, path, follow_last=False)
    if where == layout.root:
        return "rm: refusing to remove '/'\n"
    if where.is_dir() and not where.is_symlink():
        if "r" not in options:
            return f"rm: cannot remove '{path}': Is a directory\n"
        shutil.rmtree(where)
    elif where.exists() or where.is_symlink():
        where.unlink()
    else:
        return f"rm: cannot remove '{path}': No such file or directory\n"
    return ""


def _on_disk(layout: Layout, path: str, *, follow_last: bool = True) -> Path:
    return resolve(layout.root, path, follow_last=follow_last, mounts=layout.mounts())
