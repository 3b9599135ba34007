"""Lessons tried: the program in program/, run here, or sent to a box and run there; its lines become verdicts."""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from harness.core import environment, process
from harness.core.canonical import table
from harness.core.errors import BadInput
from harness.core.ports import Host
from harness.lessons.table import BY_NAME
from harness.lessons.verdicts import Tried, judge

PROGRAM: Final = Path(__file__).with_name("program")
LIMIT_S: Final = 1500.0
"""Seconds for all of them; each has a limit of its own, and DeepSpeed compiles for minutes."""

_OUTPUT: Final = 1 << 18
_ON_BOX: Final = """\
import os, subprocess, sys, tempfile
with tempfile.TemporaryDirectory(prefix="harness-lessons-") as folder:
    with open(os.path.join(folder, "program.zip"), "wb") as program:
        program.write(sys.stdin.buffer.read())
    argv, path = [sys.executable, "-m", "program", *sys.argv[1:]], os.path.join(folder, "program.zip")
    environ = {**os.environ, "PYTHONPATH": path, "TMPDIR": folder}
    sys.exit(subprocess.call(argv, cwd=folder, env=environ, stderr=subprocess.STDOUT))
"""

Run = Callable[[Sequence[str]], tuple[int, str]]
"""Runs the program with these names; returns its exit status and the last of its output."""


def here(names: Sequence[str], search: Sequence[Path] = ()) -> tuple[int, str]:
    """Run it on this machine, in a folder that is gone afterwards; its imports look into ``search`` first."""
    with tempfile.TemporaryDirectory(prefix="harness-lessons-", ignore_cleanup_errors=True) as folder:
        path = os.pathsep.join(map(str, (*search, PROGRAM.parent)))
        environ = {**environment.for_strangers_file(), "HOME": folder, "PYTHONPATH": path, "TMPDIR": folder}
        argv = [process.PYTHON, "-m", PROGRAM.name, *names]
        done = process.run(argv, cwd=Path(folder), timeout=LIMIT_S, tail=_OUTPUT, environ=environ)
    return done.status, done.tail


def packed() -> bytes:
    """The program as one zip file, which a Python runs from where it lies."""
    packing = io.BytesIO()
    with zipfile.ZipFile(packing, "w") as archive:
        for path in sorted(PROGRAM.glob("*.py")):
            archive.write(path, f"{PROGRAM.name}/{path.name}")
    return packing.getvalue()


def on(host: Host) -> Run:
    """Run it on a box, by the box's own Python, without installing anything."""

    def run(names: Sequence[str]) -> tuple[int, str]:
        argv = [process.PYTHON, "-c", _ON_BOX, *names]
        done = host.run(argv, stdin=packed(), timeout=LIMIT_S, limit=_OUTPUT)
        return done.status, done.stdout.decode("utf-8", "replace")

    return run


def attempt(names: Sequence[str], run: Run, *, day: str, place: str = "") -> Tried:
    """Try lessons and judge them; raises BadInput when the program could not begin."""
    status, output = run(names)
    told = [found for line in output.splitlines() if (found := _object(line))]
    began = next((one for one in told if "versions" in one), None)
    if began is None:
        raise BadInput(
            f"the experiments did not begin (exit status {status}): {output.strip()[-300:]}",
            remedy="They need torch, transformers, trl, peft, accelerate and datasets, on Linux or macOS.",
        )
    gpus = int(began.get("gpus", 0))
    where = f"on {gpus} GPU{'s' if gpus > 1 else ''}" if gpus else "on the CPU alone"
    found = {one["lesson"]: one for one in told if one.get("lesson") in BY_NAME}
    silent = {"ended": "unable", "said": f"the experiments ended before it (exit status {status})"}
    verdicts = {name: judge(BY_NAME[name], found.get(name, silent)) for name in names}
    return Tried(day, f"{place} {where}".strip(), began["versions"], verdicts)


def _object(line: str) -> dict[str, Any]:
    try:
        return table(json.loads(line))
    except ValueError:
        return {}
