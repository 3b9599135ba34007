"""Somebody in an empty folder, with a page of the documentation before them, who types its commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from harness.providers.emulated import stop_emulator
from tests.support.warm import warm

ROOT = Path(__file__).resolve().parents[2]


class Reader:
    """Their folder, and the harness's own in it."""

    def __init__(self, here: Path) -> None:
        self.here, self.home = here, here / "home"

    def types(self, command: str) -> tuple[int, str]:
        """A command line of ``harness``; its exit code and all that it said."""
        assert command.startswith("harness ")
        done = warm().run(
            [sys.executable, "-m", *command.split()],
            cwd=self.here,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HARNESS_HOME": str(self.home), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )
        sys.stdout.write(f"$ {command}\n{done.stdout}{done.stderr}")  # pytest shows it when something does not hold
        return done.returncode, done.stdout + done.stderr

    def leave(self) -> None:
        """End what still runs for them."""
        for service in self.home.glob("emulator*"):
            stop_emulator(service)
