"""Judges a file in a process of its own: one that shrinks under a mapping ends that process, and not this one.

Weights are mapped. A page that the file no longer has, because somebody shortened it or its disk went away, is a bus
error, which no program in Python outlives.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from harness.core.errors import BadInput, GateUnknown
from harness.core.finding import Finding
from harness.core.text import printable
from harness.core.verdict import Verdict

_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from harness.artifacts import apart; apart.serve()"
_ROOT = Path(__file__).resolve().parents[2]


def findings(judge: Callable[..., tuple[Finding, ...]], *given: object) -> tuple[Finding, ...]:
    """Findings of a module's function about what it is given.

    Raises BadInput as the function does; GateUnknown when the process did not come to its end.
    """
    ran = subprocess.run(
        [sys.executable, "-P", "-c", _PROGRAM, str(_ROOT)],
        input=pickle.dumps((judge, given)),
        capture_output=True,
        check=False,
    )
    if ran.returncode:
        said = printable(ran.stderr.decode("utf-8", "replace").strip(), 4000).splitlines()[-1:]
        how = f"was ended by signal {-ran.returncode}" if ran.returncode < 0 else f"failed ({ran.returncode})"
        raise GateUnknown(
            ": ".join([f"the process that judged the file {how}", *said]),
            remedy="Find out what changes the file, or the disk that it is on, and run the same command again.",
        )
    told = json.loads(ran.stdout)
    if "refused" in told:
        raise BadInput(told["refused"], remedy=told["remedy"])
    return tuple(Finding(**{**one, "verdict": Verdict(one["verdict"])}) for one in told["findings"])


def serve() -> None:
    """Judge what standard input says, and answer in JSON."""
    judge, given = pickle.load(sys.stdin.buffer)  # noqa: S301 - the parent process wrote it
    try:
        told: dict[str, object] = {"findings": [asdict(one) for one in judge(*given)]}
    except BadInput as error:
        told = {"refused": str(error), "remedy": error.remedy}
    json.dump(told, sys.stdout)
