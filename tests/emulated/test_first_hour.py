"""docs/first-hour.md as it is typed, but for its two whole trainings: a gate holds, and nothing is lost by accident."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.errors import GateHeld, Refused
from harness.providers.emulated import stop_emulator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS"),
]
ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "first-hour.md").read_text(encoding="utf-8")
LATE, EARLY = "artifact-damaged-on-the-box", "wrong-gpus"
"""The page's scenario holds after a training; this one holds before it, and takes seconds."""


class Reader:
    """Somebody in an empty folder, with the page before them."""

    def __init__(self, here: Path) -> None:
        self.here, self.home = here, here / "home"

    def types(self, command: str) -> tuple[int, str]:
        """A command of the page, in a process of its own; its exit code and all that it said."""
        assert command in PAGE
        done = subprocess.run(
            [sys.executable, "-m", *command.replace(LATE, EARLY).split()],
            cwd=self.here,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HARNESS_HOME": str(self.home), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        sys.stdout.write(f"$ {command}\n{done.stdout}{done.stderr}")  # pytest shows it when something does not hold
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader(tmp_path)
    yield made
    for folder in made.home.glob("emulator*"):
        stop_emulator(folder)


def test_a_gate_holds_and_the_machine_is_given_up_by_name_alone(reader: Reader) -> None:
    assert f"harness demo --scenario {LATE}" in PAGE
    code, said = reader.types(f"harness demo --scenario {LATE}")
    assert code == GateHeld.exit_code
    assert "gpus_match_offer" in said
    code, said = reader.types(f"harness destroy demo-{LATE}")
    assert code == Refused.exit_code
    assert "is not verified on this machine" in said
    code, said = reader.types(f"harness abandon demo-{LATE}")
    assert code in {0, Refused.exit_code}, "given up, or asked for the sentence"
    assert "instance" in said


def test_the_readers_own_job_file_is_held_for_a_row_too_many(reader: Reader) -> None:
    init, doctor, plan, preflight = re.findall(r"(?m)^\$ (harness .*rehearsal.*|harness init .*)$", PAGE)
    for command in (init, doctor, plan):
        assert reader.types(command)[0] == 0
    file = reader.here / "rehearsal.toml"
    text = file.read_text(encoding="utf-8")
    assert text.count("[data]\n") == 1
    file.write_text(text.replace("[data]\n", "[data]\nfeatures = 15301\n"), encoding="utf-8")
    code, said = reader.types(preflight)
    assert code == GateHeld.exit_code
    assert "dataset_counts" in said
