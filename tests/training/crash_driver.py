"""Runs the package's own command line once for each crash point given, killing the process with SIGKILL right there.

``crash_driver.py POINTS [options of the package]``, in the directory of the run. A point is null
(the attempt runs to its end) or ``{"target": "module:attribute", "call": n, "when": "before"|"after"|"torn",
"suffix": "..."}``: the n-th call of the target (counting only calls with an argument ending in ``suffix``)
kills the process before it, after it, or after cutting the file it wrote in half; or ``{"after": seconds}``.
The libraries are imported once; each attempt is a fork.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import datasets  # noqa: F401 - imported before the forks
import peft  # noqa: F401 - imported before the forks
import train_deepseek_forex as entry
import transformers  # noqa: F401 - imported before the forks
import trl
from forex.cli import main

_ = trl.SFTTrainer, trl.DPOTrainer


def arm(point: dict[str, Any]) -> None:
    """Put the kill in place."""
    if "after" in point:
        timer = threading.Timer(point["after"], kill)
        timer.daemon = True
        timer.start()
        return
    module_name, _, path = point["target"].partition(":")
    owner: Any = importlib.import_module(module_name)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    original = getattr(owner, name)
    calls = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        texts = [str(value) for value in (*args, *kwargs.values()) if isinstance(value, str | os.PathLike)]
        named = [text for text in texts if text.endswith(point.get("suffix", ""))]
        calls += bool(named) or "suffix" not in point
        due = calls == point["call"] and (bool(named) or "suffix" not in point)
        if due and point["when"] == "before":
            kill()
        result = original(*args, **kwargs)
        if due and point["when"] == "torn":
            os.truncate(named[-1], Path(named[-1]).stat().st_size // 2)
        if due:
            kill()
        return result

    setattr(owner, name, wrapped)


def kill() -> None:
    """End this process as a lost machine would."""
    os.kill(os.getpid(), signal.SIGKILL)


def run(point: dict[str, Any] | None, options: list[str], number: int) -> dict[str, Any]:
    """One attempt in a child process."""
    log = Path(f"attempt-{number}.log")
    child = os.fork()
    if child == 0:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        if point is not None:
            arm(point)
        status = main(options, batch_size=entry.BATCH_SIZE, load_base_model=entry.load_base_model)
        os._exit(status)
    _, ended = os.waitpid(child, 0)
    return {
        "signal": os.WTERMSIG(ended) if os.WIFSIGNALED(ended) else 0,
        "status": os.WEXITSTATUS(ended) if os.WIFEXITED(ended) else None,
        "log": log.read_text(encoding="utf-8", errors="replace"),
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks with threads; none works yet
    gc.freeze()  # a fork that looked for garbage among the libraries would copy them
    points = json.loads(sys.argv[1])
    ends = [run(point, sys.argv[2:], number) for number, point in enumerate(points)]
    Path("attempts.json").write_text(json.dumps(ends), encoding="utf-8")
