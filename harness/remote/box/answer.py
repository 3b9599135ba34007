"""Answers a list of questions about the box, each on its own, all at once, in one bounded line of JSON."""

# The box may have Python 3.8: typing's old names; and os.path throughout, as strings are what crosses the wire.
# ruff: noqa: PTH111
from __future__ import annotations

import concurrent.futures
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from harness.remote.box import excerpt, files, heard, machine, session, training

OPERATIONS: dict[str, Callable[..., Any]] = {
    "checkpoints": training.checkpoints,
    "command": machine.command,
    "disk": files.disk,
    "excerpt": excerpt.excerpt,
    "gguf": training.gguf,
    "glob": files.glob,
    "gpus": machine.gpus,
    "grep": files.grep,
    "lines": files.lines,
    "now": files.now,
    "processes": machine.processes,
    "python_packages": machine.python_packages,
    "read_text": files.read_text,
    "session": session.state,
    "sha256": files.sha256,
    "tail": files.tail,
    "tmux_sessions": machine.tmux_sessions,
    "tree": files.tree,
    "weights": training.weights,
}
THREADS = 8
WORD_S = 30.0
"""Seconds of an answer that takes long between two words that the harness was heard from."""


def main(request: Any) -> None:
    """Answer ``request`` and leave the process at once: a thread stuck in a dead file system must not hold it."""
    os.chdir(os.path.expanduser("~"))
    line = request["marker"] + json.dumps(answers(request), ensure_ascii=True) + "\n"
    sys.stdout.write(line)
    sys.stdout.flush()
    os._exit(0)


def answers(request: Any) -> Any:
    """``{id: {"value": ...} | {"problem": text}}`` for every question, within the time and size that were asked for."""
    deadline = time.monotonic() + request["timeout"]
    pool = concurrent.futures.ThreadPoolExecutor(THREADS)
    asked = {q["id"]: pool.submit(_answer, q) for q in request["questions"]}
    room = request["limit"]
    result = {}
    for name, future in asked.items():
        try:
            answer = future.result(timeout=_heard_until(future, deadline))
        except concurrent.futures.TimeoutError:
            answer = {"problem": "no answer within {:.0f} s".format(request["timeout"])}
        size = len(json.dumps(answer))
        if size > room:
            answer = {"problem": f"the answer is too large: {size} bytes"}
            size = 100
        room -= size
        result[name] = answer
    return result


def _heard_until(future: Any, deadline: float) -> float:
    """Wait for an answer until the deadline, which the harness waits for, too; the seconds that are left of it."""
    while True:
        left = max(0.0, deadline - time.monotonic())
        if left <= WORD_S or concurrent.futures.wait([future], WORD_S).done:
            return left
        heard.touch()


def _answer(question: Any) -> Any:
    operation = OPERATIONS.get(question["op"])
    if operation is None:
        return {"problem": "unknown operation {}".format(question["op"])}
    try:
        return {"value": operation(**question["args"])}
    except Exception as error:  # noqa: BLE001 - whatever went wrong is this question's problem, and told
        return {"problem": (f"{type(error).__name__}: {error}")[:500]}
