"""A command of the package is bounded in time and output, whatever it does."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from harness.core import process
from harness.core.errors import BadInput


def test_the_harness_interpreter_runs_python3(tmp_path: Path) -> None:
    done = process.run(["python3", "-c", "import sys; print(sys.executable)"], cwd=tmp_path, timeout=30)
    assert (done.status, done.tail.strip(), done.timed_out) == (0, sys.executable, False)


def test_only_the_end_of_the_output_is_kept(tmp_path: Path) -> None:
    done = process.run(["python3", "-c", "print('x' * 10**7); print('end')"], cwd=tmp_path, timeout=30, tail=100)
    assert done.tail.endswith("end\n")
    assert len(done.tail) <= 100


def test_what_it_prints_cannot_drive_the_terminal(tmp_path: Path) -> None:
    script = "import sys; sys.stdout.buffer.write(b'\\x1b]0;owned\\x07\\x1b[31mred\\xff')"
    assert process.run(["python3", "-c", script], cwd=tmp_path, timeout=30).tail == "red\N{REPLACEMENT CHARACTER}"


@pytest.mark.skipif(sys.platform == "win32", reason="sessions are POSIX's")
@pytest.mark.parametrize("leader", ["time.sleep(60)", "pass"])
def test_a_child_that_holds_the_output_does_not_hold_the_caller(tmp_path: Path, leader: str) -> None:
    script = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
    script += leader
    began = time.monotonic()
    done = process.run(["python3", "-c", script], cwd=tmp_path, timeout=1)
    assert done.timed_out
    assert time.monotonic() - began < 30


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot run nothing-like-this"):
        process.run(["nothing-like-this"], cwd=tmp_path, timeout=1)


SECRET = ("VAST_API_KEY", "HF_TOKEN", "DB_PASSWORD", "HARNESS_NOTIFY")


def test_keys_are_not_handed_to_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*SECRET, "TOKENIZERS_PARALLELISM", "HARNESS_NOTIFY_LATER"):
        monkeypatch.setenv(name, f"value-of-{name}")
    done = process.run(["python3", "-c", "import os; print(*os.environ.values(), sep='\\n')"], cwd=tmp_path, timeout=30)
    assert "value-of-TOKENIZERS_PARALLELISM" in done.tail
    assert "value-of-HARNESS_NOTIFY_LATER" in done.tail
    assert not any(f"value-of-{name}\n" in done.tail for name in SECRET)
