"""An experiment ends within its limit, whatever it does, and leaves neither a process nor a file."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.lessons.trying import PROGRAM

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the program forks")

DRIVER = """
import json, os, signal, subprocess, sys, time
from types import SimpleNamespace
from program.__main__ import _try

def run():
{body}

one = SimpleNamespace(run=run, ranks={ranks}, limit_s={limit}, gpus={gpus}, needs="{needs}")
print(json.dumps(_try("a-lesson", one, 0, 1)), flush=True)
"""


def tried(folder: Path, body: str, *, ranks: int = 1, limit: float = 30.0, gpus: int = 0, needs: str = "json") -> Any:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    code = DRIVER.format(body=lines, ranks=ranks, limit=limit, gpus=gpus, needs=needs)
    environ = {"PYTHONPATH": str(PROGRAM.parent), "TMPDIR": str(folder), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(done.stdout)


def alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def is_gone(pid: int) -> bool:
    ends = time.monotonic() + 120
    while alive(pid) and time.monotonic() < ends:
        time.sleep(0.02)
    return not alive(pid)


@pytest.mark.parametrize(
    ("body", "options", "ended", "said"),
    [
        ("return ''", {}, "worked", ""),
        ("return ''", {"ranks": 2}, "worked", ""),
        ("return 'it is DDP'", {"ranks": 2}, "differs", "it is DDP"),
        ("raise ValueError('no grad')", {}, "raised", "ValueError: no grad"),
        ("raise SystemExit(3)", {}, "raised", "SystemExit: 3"),
        ("time.sleep(600)", {"limit": 0.5}, "unable", "it had not ended after 0 s"),
        ("time.sleep(600)", {"gpus": 2}, "unable", "it takes 2 GPUs, and there are 0"),
        ("return ''", {"needs": "no_such_library"}, "unable", "no_such_library is not installed"),
        ("os.kill(os.getpid(), signal.SIGKILL)", {}, "unable", "died without a word"),
        ("print('out of memory', flush=True)\nos._exit(1)", {"ranks": 2}, "unable", "out of memory"),
        # One rank fails, the other hangs in a collective: the failure is the outcome, not the time.
        ("if os.environ['RANK'] == '1':\n    raise ValueError('1')\ntime.sleep(600)", {"ranks": 2}, "raised", "1"),
        # One rank answers, the other never: not a success.
        (
            "if os.environ['RANK'] == '1':\n    time.sleep(600)\nreturn ''",
            {"ranks": 2, "limit": 1.0},
            "unable",
            "had not",
        ),
        ("if os.environ['RANK'] == '1':\n    os._exit(0)\nreturn ''", {"ranks": 2}, "unable", "died"),
        # One rank trains what was asked, the other something else.
        ("return 'frozen' if os.environ['RANK'] == '1' else ''", {"ranks": 2}, "differs", "frozen"),
    ],
)
def test_how_it_ended_is_told_and_nothing_is_left(
    tmp_path: Path, body: str, options: dict[str, Any], ended: str, said: str
) -> None:
    outcome = tried(tmp_path, body, **options)
    assert (outcome["lesson"], outcome["ended"]) == ("a-lesson", ended), outcome
    assert said in outcome["said"]
    assert not [*tmp_path.iterdir()]


def test_a_program_that_it_started_ends_with_it(tmp_path: Path) -> None:
    note = tmp_path.parent / f"{tmp_path.name}.pid"
    body = f"child = subprocess.Popen(['sleep', '600'])\nopen({str(note)!r}, 'w').write(str(child.pid))\nchild.wait()"
    assert tried(tmp_path, body, limit=2.0)["ended"] == "unable"
    assert is_gone(int(note.read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")
def test_experiments_die_with_the_program(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    body = f"    open({str(note)!r}, 'a').write(f'{{os.getpid()}}\\n')\n    time.sleep(600)\n"
    code = DRIVER.format(body=body, ranks=2, limit=600, gpus=0, needs="json")
    environ = {"PYTHONPATH": str(PROGRAM.parent), "TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    with subprocess.Popen([sys.executable, "-c", code], env=environ) as program:
        ends = time.monotonic() + 120
        while time.monotonic() < ends and not (note.exists() and note.read_text().count("\n") == 2):
            time.sleep(0.02)
        program.kill()
    pids = [int(line) for line in note.read_text().split()]
    assert len(pids) == 2
    assert all(map(is_gone, pids))
