"""A warm interpreter's forks: each is a command of its own, as if it had been started from nothing."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.facts.upload import Difference
from harness.gates import judge
from harness.gates.evidence import GateResult
from tests.support.facts import changed, facts_file, upload
from tests.support.warm import warm

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a fork needs Linux or macOS")

PROGRAM = """
import os, sys
import harness.cli.run
print(os.getpid(), os.getcwd(), os.environ.get("TOLD"), sys.argv[1:], getattr(harness.cli.run, "kept", "clean"))
harness.cli.run.kept = "remembered"
print("a word of woe", file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""


def run(here: Path, *words: str, told: str = "", timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return warm().run(
        [sys.executable, "-m", *words],
        env={**os.environ, "TOLD": told},
        cwd=here,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_a_command_has_its_words_its_folder_its_environment_and_remembers_nothing(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    said = [run(tmp_path, "program", str(code), told=f"told {code}") for code in (0, 3)]
    for code, one in zip((0, 3), said, strict=True):
        pid, rest = one.stdout.split(" ", 1)
        assert int(pid) != os.getpid()
        assert rest == f"{tmp_path} told {code} ['{code}'] clean\n"
        assert (one.returncode, one.stderr) == (code, "a word of woe\n")
    assert len({one.stdout.split()[0] for one in said}) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_what_is_forked_has_one_thread(tmp_path: Path) -> None:
    """A fork takes along one thread and the locks of all."""
    (tmp_path / "threads.py").write_text("import os; print(len(os.listdir('/proc/self/task')))", encoding="utf-8")
    (tmp_path / "above.py").write_text(
        "import os; print(len(os.listdir(f'/proc/{os.getppid()}/task')))", encoding="utf-8"
    )
    assert [run(tmp_path, name).stdout for name in ("threads", "above")] == ["1\n", "1\n"]


def test_a_traceback_is_said_and_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0", encoding="utf-8")
    done = run(tmp_path, "broken")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_one_that_takes_too_long_is_killed_and_the_next_is_heard(tmp_path: Path) -> None:
    """Which is heard once the one before it has ended."""
    (tmp_path / "asleep.py").write_text("import time; time.sleep(1000)", encoding="utf-8")
    with pytest.raises(subprocess.TimeoutExpired):
        run(tmp_path, "asleep", timeout=1)
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    assert run(tmp_path, "program", "0").returncode == 0


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [(Difference(41, (), (), ()), Verdict.PASS), (Difference(41, ("a.py",), (), ()), Verdict.FAIL)],
)
def test_a_gate_says_what_it_says_in_an_interpreter_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, difference: Difference, verdict: Verdict
) -> None:
    path = tmp_path / "facts.json"
    path.write_bytes(facts_file(Stage.UPLOAD, changed(upload(), {"difference": difference})).dump())
    fresh = judge.judge(path)
    monkeypatch.setattr(judge, "subprocess", warm())
    forked = judge.judge(path)
    assert fresh.verdict is verdict
    assert _timeless(forked) == _timeless(fresh)


def _timeless(gate: GateResult) -> GateResult:
    results = tuple(dataclasses.replace(result, seconds=0.0) for result in gate.results)
    return dataclasses.replace(gate, seconds=0.0, results=results)
