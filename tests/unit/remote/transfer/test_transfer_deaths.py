"""Killed before any effect on the disk, a download leaves what the next one takes up or sweeps away."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.skipif(sys.platform == "win32", reason="processes are killed by POSIX signals")
def test_whatever_the_effect_that_it_dies_at_the_next_one_ends_clean(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.dying_download", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    deaths = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(deaths) > 30, "every effect is one to die at"
    assert all(death["whole"] for death in deaths)
    assert [death["then"] for death in deaths] == [[]] * len(deaths)
    assert [death["unfinished"] for death in deaths] == [[]] * len(deaths)
    left = {name.replace(".gguf", "") for death in deaths for name in death["left"]}
    assert {"model.part", "model.part.journal", "model.part.lock"} <= left, "deaths left all that there is to leave"
    assert any(name.startswith(".model.part.journal.") for name in left)
