"""docs/first-hour.md as it is typed, but for its two whole trainings: a gate holds, and nothing is lost by accident."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.errors import GateHeld, Refused
from tests.support.reader import ROOT, Reader

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS"),
]
PAGE = (ROOT / "docs" / "first-hour.md").read_text(encoding="utf-8")
LATE, EARLY = "artifact-damaged-on-the-box", "wrong-gpus"
"""The page's scenario holds after a training; this one holds before it, and takes seconds."""


def types(reader: Reader, command: str) -> tuple[int, str]:
    """A command of the page, at the earlier scenario; its exit code and all that it said."""
    assert command in PAGE
    return reader.types(command.replace(LATE, EARLY))


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader(tmp_path)
    yield made
    made.leave()


def test_a_gate_holds_and_the_machine_is_given_up_by_name_alone(reader: Reader) -> None:
    assert f"harness demo --scenario {LATE}" in PAGE
    code, said = types(reader, f"harness demo --scenario {LATE}")
    assert code == GateHeld.exit_code
    assert "gpus_match_offer" in said
    code, said = types(reader, f"harness destroy demo-{LATE}")
    assert code == Refused.exit_code
    assert "is not verified on this machine" in said
    code, said = types(reader, f"harness abandon demo-{LATE}")
    assert code in {0, Refused.exit_code}, "given up, or asked for the sentence"
    assert "instance" in said


def test_the_readers_own_job_file_is_held_for_a_row_too_many(reader: Reader) -> None:
    init, doctor, plan, preflight = re.findall(r"(?m)^\$ (harness .*rehearsal.*|harness init .*)$", PAGE)
    for command in (init, doctor, plan):
        assert types(reader, command)[0] == 0
    file = reader.here / "rehearsal.toml"
    text = file.read_text(encoding="utf-8")
    assert text.count("[data]\n") == 1
    file.write_text(text.replace("[data]\n", "[data]\nfeatures = 15301\n"), encoding="utf-8")
    code, said = types(reader, preflight)
    assert code == GateHeld.exit_code
    assert "dataset_counts" in said
