"""A ``harness run`` that is played: it ends with the exit codes of a script, and writes down that it was called.

Run as a program, below the fleet's worker; it starts at once, for it loads nothing of the harness. In the folder
PLAYED, ``calls`` gets a line for each beginning and end; ``plays/JOB-STAGE`` holds the codes of the first calls, or
``wait``: until the file ``go`` is there. It has the job's lock of a store that is a file, as the harness has it.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
import tomllib
from pathlib import Path

DEADLINE_S = 120.0
BUSY = 10


def main(home: Path, played: Path, file: Path, stage: str) -> int:
    """Drive the job through the stage, as far as its script says."""
    job = tomllib.loads(file.read_text(encoding="utf-8"))["name"]
    locks = home / "state.db.locks"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / f"job-{job}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write(f"error: job {job} is being run\n")
            return BUSY
        _note(played, f"begin {job} {stage}")
        code = _play(played, played / "plays" / f"{job}-{stage}")
        _note(played, f"end {job} {stage}")
    if code:
        sys.stderr.write(f"some line\nerror: {job} is played in {stage}\nnext:  nothing\nexit code {code}\n")
    return code


def _play(played: Path, script: Path) -> int:
    first, *rest = (script.read_text(encoding="utf-8") if script.exists() else "0").split() or ["0"]
    if first == "wait":
        until = time.monotonic() + DEADLINE_S
        while not (played / "go").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        return 0
    if script.exists():
        script.write_text(" ".join(rest), encoding="utf-8")
    if int(first) < 0:
        os.kill(os.getpid(), -int(first))
        signal.pause()
    return int(first)


def _note(played: Path, line: str) -> None:
    with (played / "calls").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(Path(os.environ["HARNESS_HOME"]), Path(os.environ["PLAYED"]), Path(sys.argv[2]), sys.argv[4]))
