"""``training.log`` is complete, whatever the shell does with the output of the runs that write it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from tests.training.conftest import PACKAGE

pytestmark = pytest.mark.skipif(shutil.which("tee") is None, reason="a rented box has tee, and this system has none")

_RUN = f"""
import os, signal, sys
sys.path.insert(0, {str(PACKAGE)!r})
from forex import ownlog
name, end = sys.argv[1:]
with ownlog.kept():
    print(name, "printed", flush=True)
    os.write(2, f"{{name}} written by a library\\n".encode())
    if end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "interrupted":
        os.kill(0, signal.SIGINT)
    print(name, "last")
"""

SHELLS = {
    "without a log": "{run}",
    "with tee": "{run} 2>&1 | tee training.log",
    "with tee -a": "{run} 2>&1 | tee -a training.log",
    "into the log": "{run} > training.log 2>&1",
    "at the log's end": "{run} >> training.log 2>&1",
    "elsewhere": "{run} > /dev/null 2>&1",
}


def ran(folder: Path, shell: str, name: str, end: str = "whole") -> str:
    """What a run in this folder printed to the shell's own output; ``end`` is how it ends."""
    (folder / "run.py").write_text(_RUN, encoding="utf-8")
    command = SHELLS[shell].format(run=f"{sys.executable} run.py {name} {end}")
    done = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout


def said(name: str, end: str = "whole") -> list[str]:
    return [f"{name} printed", f"{name} written by a library", *([f"{name} last"] if end == "whole" else [])]


def log_of(folder: Path) -> list[str]:
    return [line for line in (folder / "training.log").read_text(encoding="utf-8").splitlines() if line != "Killed"]


@pytest.mark.parametrize(("first", "second"), list(product(SHELLS, SHELLS)))
def test_the_log_holds_both_runs_once_and_in_order(tmp_path: Path, first: str, second: str) -> None:
    ran(tmp_path, first, "one", "killed")
    ran(tmp_path, second, "two")
    assert log_of(tmp_path) == said("one", "killed") + said("two")


@pytest.mark.parametrize("late", [0, 1, 2])
def test_last_lines_that_come_behind_the_next_shells_redirection_are_not_written_over(
    tmp_path: Path, late: int
) -> None:
    lines = said("one", "killed")
    (tmp_path / "run.py").write_text(_RUN, encoding="utf-8")
    (tmp_path / "models").mkdir()
    (tmp_path / "models/training.log").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    with (tmp_path / "training.log").open("w", encoding="utf-8") as emptied:
        with (tmp_path / "training.log").open("a", encoding="utf-8") as of_the_run_that_died:
            of_the_run_that_died.writelines(f"{line}\n" for line in lines[len(lines) - late :])
        subprocess.run(
            [sys.executable, "run.py", "two", "whole"],
            cwd=tmp_path,
            stdout=emptied,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=True,
        )
    assert log_of(tmp_path) == lines + said("two")


def test_the_shell_is_still_told(tmp_path: Path) -> None:
    assert ran(tmp_path, "without a log", "one").splitlines() == said("one")
    assert ran(tmp_path, "with tee", "two").splitlines() == said("two")


def test_a_log_that_was_there_before_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "training.log").write_text("of an earlier version\n", encoding="utf-8")
    ran(tmp_path, "without a log", "one")
    assert log_of(tmp_path) == ["of an earlier version", *said("one")]


def test_the_last_words_of_an_interrupted_run_are_in_the_log(tmp_path: Path) -> None:
    script = _RUN.replace("with ownlog.kept():", "with ownlog.kept():\n  try:").replace("\n    ", "\n      ")
    script = script.rstrip() + '\n  except KeyboardInterrupt:\n      print("TRAINING FAILED: interrupted")\n'
    (tmp_path / "run.py").write_text(script, encoding="utf-8")
    run = subprocess.Popen(
        [sys.executable, "run.py", "one", "interrupted"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert run.wait(60) == 0
    assert log_of(tmp_path) == [*said("one", "interrupted"), "TRAINING FAILED: interrupted"]


def test_without_tee_the_output_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(_RUN, encoding="utf-8")
    (tmp_path / "bin").mkdir()
    done = subprocess.run(
        [sys.executable, "run.py", "one", "whole"],
        cwd=tmp_path,
        env={**os.environ, "PATH": str(tmp_path / "bin")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == ["one printed", "one last"]
    assert not (tmp_path / "training.log").exists()
