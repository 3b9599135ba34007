"""Loads a GGUF in a llama.cpp runtime, in a process of its own: a file that crashes it crashes nothing else.

The file is a stranger's: its template is a program. It runs without this process's keys, in bounded time and memory
(Linux bounds the memory; elsewhere time alone ends what grows), and what it prints is bounded. A process that was
ended from outside, by the system for its memory above all, says nothing about the file.
"""

from __future__ import annotations

import re
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from harness.core import canonical, environment, process
from harness.core.ids import new_secret
from harness.core.observed import CouldNotLook
from harness.core.text import human_bytes, printable

_TIMEOUT_S = 600.0
_IMPORT_TIMEOUT_S = 60.0
_ROOM = 4 << 30
"""Bytes that the runtime may take beside twice the file's, which it may hold once more in its own layout."""

_NO_ROOM = 75
"""Exit status of a program that was refused memory (EX_TEMPFAIL of sysexits.h)."""

_REFUSED = re.compile("bad_alloc|(?:failed|unable) to allocate|out of memory|cannot allocate memory", re.IGNORECASE)
"""The runtime's own words for it, before an error that names no cause. A file that says them is held like any other."""

_OUTPUT = 1 << 16
_START = f"""
import json, sys
mark, room = sys.argv[1], int(sys.argv[2])
if sys.platform == "linux":
    import resource
    resource.setrlimit(resource.RLIMIT_DATA, (room, room))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
def say(answer):
    print(flush=True)
    print(mark + json.dumps(answer), flush=True)
def bounded(work):
    try:
        work()
    except MemoryError:
        sys.exit({_NO_ROOM})
"""
_READY = """
def work():
    import xllamacpp
    say(xllamacpp.__version__)
bounded(work)
"""
_GENERATE = """
def work():
    import xllamacpp
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[3]
    params.n_ctx = 256
    params.n_predict = 16
    params.warmup = False
    answer = xllamacpp.Server(params).handle_completions(
        {"prompt": sys.argv[4], "n_predict": 16, "temperature": 0.0, "cache_prompt": False}
    )
    say({"tokens": answer["usage"]["completion_tokens"], "text": answer["choices"][0]["text"]})
bounded(work)
"""


@dataclass(frozen=True, slots=True)
class Generation:
    """The runtime's answer: that it loaded the file, the tokens that it generated, and its text or error."""

    loaded: bool
    tokens: int = 0
    text: str = ""
    error: str = ""


def ready() -> str:
    """The version of the runtime that loads here; raises CouldNotLook when none does."""
    answer, last = _run(_READY, room=_ROOM, timeout=_IMPORT_TIMEOUT_S)
    if answer is None:
        raise CouldNotLook(f"the llama.cpp runtime does not load: {last}")
    return printable(str(answer), 100)


def generate(path: Path, prompt: str) -> Generation:
    """Load the file and generate up to 16 tokens after ``prompt``; raises CouldNotLook when that says nothing of it."""
    try:
        room = 2 * path.stat().st_size + _ROOM
    except OSError as error:
        raise CouldNotLook(f"{path} cannot be read: {error.strerror or error}") from error
    answer, last = _run(_GENERATE, str(path.resolve()), prompt, room=room, timeout=_TIMEOUT_S)
    if not isinstance(answer, dict):
        return Generation(loaded=False, error=last)
    return Generation(loaded=True, tokens=int(answer["tokens"]), text=printable(str(answer["text"]), 200))


def _run(program: str, *given: str, room: int, timeout: float) -> tuple[object, str]:
    """Answer of a program, or None and the last words of one that failed.

    Raises CouldNotLook when it had not its time, its memory or its end.
    """
    if find_spec("xllamacpp") is None:
        raise CouldNotLook("no llama.cpp runtime is installed: pip install 'gold-standard-harness[runtime]'")
    mark = new_secret()  # what the file makes the runtime print is never taken for the answer
    with tempfile.TemporaryDirectory(prefix="harness-runtime-") as scratch:
        ran = process.run(
            [sys.executable, "-P", "-c", _START + program, mark, str(room), *given],
            cwd=Path(scratch),
            timeout=timeout,
            tail=_OUTPUT,
            environ=environment.for_strangers_file(),
        )
    if ran.timed_out:
        raise CouldNotLook(f"the runtime did not answer within {timeout:.0f} s")
    if ran.status == _NO_ROOM or (ran.status and _REFUSED.search(ran.tail)):
        raise CouldNotLook(f"the runtime needs more than the {human_bytes(room)} of memory that it may take")
    if not 0 <= ran.status <= 255:  # a signal; Windows: an exception of the system
        raise CouldNotLook(f"the runtime was ended by the system ({ran.status}), which says nothing about the file")
    told = next((line for line in reversed(ran.tail.splitlines()) if line.startswith(mark)), None)
    if ran.status != 0 or told is None:
        return None, printable(ran.tail[-400:], 400)
    return canonical.parse(told.removeprefix(mark)), ""
