"""A box without a network: what would be sent to it runs here, in a HOME of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from harness.core.observed import Observed
from harness.core.ports import RunResult
from harness.core.questions import Question
from harness.remote.probe import posix_fallback, probe

T = TypeVar("T")


class LocalBox:
    """A box on this machine; ``path`` is where it looks for programs, ``python`` whether it has one."""

    def __init__(self, home: Path, path: str | None = None, *, python: bool = True) -> None:
        self.home = home
        self.environment = {"HOME": str(home), "PATH": path or os.environ["PATH"]}
        self.python = python

    def run(self, argv: Sequence[str], stdin: bytes, timeout: float, limit: int) -> RunResult:
        """Run one command."""
        words = list(argv)
        if argv[0] == "python3":
            if not self.python:
                return RunResult(posix_fallback.NO_SUCH_PROGRAM, b"", b"sh: python3: not found")
            words[0] = sys.executable
        ran = subprocess.run(
            words, input=stdin, capture_output=True, cwd=self.home, env=self.environment, timeout=timeout, check=False
        )
        return RunResult(ran.returncode, ran.stdout[:limit], ran.stderr[:limit])

    def ask(self, question: Question[T]) -> Observed[T]:
        """Ask one question."""
        return probe.ask(self.run, [question], 30.0)[question]


def tools_of(busybox: str, folder: Path) -> str:
    """A folder with nothing but BusyBox's tools, those that the questions need which are asked without Python."""
    for tool in ("sh", "stat", "wc", "sha256sum", "df", "tail", "date"):
        (folder / tool).symlink_to(busybox)
    return str(folder)
