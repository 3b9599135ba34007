"""In a clone: the command of the README judges a stage with what a core install brings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.core.lifecycle import Stage
from tests.support.facts import facts_file

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("python", [["-m"], ["-P", "-m"]])
@pytest.mark.parametrize("plugins", [[], ["-p", "no:timeout", "-p", "no:hypothesispytest"]])
def test_a_stage_is_judged_with_and_without_the_plugins_of_the_tests(
    python: list[str], plugins: list[str], tmp_path: Path
) -> None:
    facts = tmp_path / "teardown.json"
    facts.write_bytes(facts_file(Stage.TEARDOWN).dump())
    command = [sys.executable, *python, "pytest", *plugins, "-p", "no:cacheprovider", "checks/"]
    told = ["--stage=teardown", f"--facts={facts}"]
    ran = subprocess.run([*command, *told], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "gate teardown: OPEN, 7 of 7 checks passed" in ran.stdout
