"""A ``vastai`` that asks the command guard first: installed in a directory of its own, to stand first on PATH.

The shim is a few lines of shell that start this module (by ``harness.cli.judging``, which knows the jobs) with the
Python that installed it. This module judges the arguments as the operating system hands them over, so that no quoting,
script or alias hides them, and then becomes the real ``vastai`` that comes later on PATH.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from harness.core import environment
from harness.core.errors import BadInput, Refused
from harness.shellguard.explain import Instead, by_rule, warning
from harness.shellguard.judge import judge_argv

MARK = "gold-standard-harness: asks harness guard, then runs the real vastai"
"""Stands in every file that ``install`` writes; ``uninstall`` removes no file without it."""

NOT_FOUND = 127
"""Exit code of a shell when a program is not found (POSIX, Shell Command Language, 2.8.2)."""


def shims(python: str, *, windows: bool) -> dict[str, str]:
    """The files to write, by name. ``-P`` keeps the working directory from standing in for the installed package."""
    if not windows:
        quoted = "'" + python.replace("'", "'\\''") + "'"
        return {"vastai": f'#!/bin/sh\n# {MARK}\nexec {quoted} -P -m harness.cli.judging --shim "$@"\n'}
    percent, doubled = python.replace("%", "%%"), python.replace("'", "''")
    return {
        "vastai.cmd": f'@rem {MARK}\n@"{percent}" -P -m harness.cli.judging --shim %*\n',
        "vastai.ps1": f"# {MARK}\n& '{doubled}' -P -m harness.cli.judging --shim @args\nexit $LASTEXITCODE\n",
    }


def directory() -> Path:
    """Where the shim is installed unless told otherwise."""
    return environment.home() / "shims"


def install(into: Path, *, python: str = sys.executable, windows: bool = os.name == "nt") -> tuple[Path, ...]:
    """Write the shim. Raises BadInput when a file of that name is somebody else's, or cannot be written."""
    files = {into / name: text for name, text in shims(python, windows=windows).items()}
    try:
        for path in files:
            if path.exists() and not is_shim(path):
                raise BadInput(
                    f"{path} exists and is not the harness's shim",
                    remedy="choose another directory: harness guard install --directory DIR",
                )
        into.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text, encoding="utf-8", newline="\r\n" if windows else "\n")
            path.chmod(0o755)
    except OSError as error:
        raise BadInput(f"the shim cannot be written: {error}") from error
    return tuple(files)


def uninstall(from_: Path) -> tuple[Path, ...]:
    """Remove the files that install wrote, and the directory of ours when nothing else is in it."""
    removed = []
    for name in ("vastai", "vastai.cmd", "vastai.ps1"):
        path = from_ / name
        if is_shim(path):
            try:
                path.unlink()
            except OSError as error:
                raise BadInput(f"the shim cannot be removed: {error}") from error
            removed.append(path)
    if removed and from_ == directory() and not any(from_.iterdir()):
        from_.rmdir()
    return tuple(removed)


def is_shim(path: Path) -> bool:
    """True for a file that install wrote: its mark stands in the first lines."""
    try:
        with path.open("rb") as file:
            return MARK.encode() in file.read(4096)
    except OSError:
        return False


def real_vastai() -> Path | None:
    """The first ``vastai`` on PATH that is not a shim, or None."""
    for entry in environment.search_path():
        for suffix in environment.program_suffixes():
            path = Path(entry) / f"vastai{suffix}"
            if path.is_file() and os.access(path, os.X_OK) and not is_shim(path):
                return path
    return None


def main(args: tuple[str, ...], instead: Instead = by_rule) -> int:
    """Ask the command guard, then become the real ``vastai``; its exit code is this one's."""
    try:
        told = warning(judge_argv(("vastai", *args)), instead)
    except Refused as refused:
        sys.stderr.write(f"harness guard: held. {refused}\nnext: {refused.remedy}\n")
        return refused.exit_code
    if told:
        sys.stderr.write(f"harness guard: {told}\n")
    found = real_vastai()
    if found is None:
        sys.stderr.write("harness guard: no vastai on PATH behind the shim. pip install vastai\n")
        return NOT_FOUND
    command = [str(found), *args]
    if os.name != "nt":
        os.execv(found, command)  # noqa: S606  # the same process goes on: signals, terminal and exit code are its own
    # On Windows execv would return to the shell before the program ends.
    return subprocess.run(command, check=False).returncode
