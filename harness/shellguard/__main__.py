"""``python -m harness.shellguard``: the agent's hook alone, which starts fast and fails closed.

A line that needs a grammar is judged in a second process: a crash in a grammar's C code, or a
line that keeps it busy, must end in exit code 2 as every other failure does, because
an agent takes any other code, and its own time-out, for a yes.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.shellguard.explain import Instead

TIMEOUT_S = 20.0
"""Seconds for one judgement; it takes a tenth of one. Agents give a hook a minute (Claude Code's default)."""

INNER = "--judge"


def main(*, inner: bool = False, judging: str = "harness.shellguard", instead: Instead | None = None) -> int:
    """Read a request from standard input, write the answer, return the exit code. Never lets a failure pass as yes.

    ``judging`` is the module that the second process runs; ``instead`` tells that process the way that is open.
    """
    try:
        from harness.shellguard.request import MAX_INPUT, concerns  # noqa: PLC0415  # a failing import must block too

        request = sys.stdin.buffer.read(MAX_INPUT + 1)
        if inner:
            return _judged_here(request, instead)
        return _judged_apart(request, judging) if concerns(request) else 0
    except Exception as error:  # noqa: BLE001  # exit code 1 would let the command run: every failure must end in 2
        return _failed(f"{type(error).__name__}: {error}")


def _judged_here(request: bytes, instead: Instead | None) -> int:
    from harness.shellguard.hook import answer  # noqa: PLC0415  # only the judging process needs it

    reply = answer(request) if instead is None else answer(request, instead)
    sys.stdout.write(reply.stdout)
    sys.stdout.flush()
    sys.stderr.write(reply.stderr)
    return reply.exit_code


def _judged_apart(request: bytes, judging: str) -> int:
    command = [sys.executable, "-P", "-m", judging, INNER]
    done = subprocess.run(command, input=request, stdout=subprocess.PIPE, check=False, timeout=TIMEOUT_S)
    if done.returncode not in (0, 2):
        return _failed(f"the judging process ended with status {done.returncode}")
    sys.stdout.buffer.write(done.stdout)
    sys.stdout.flush()
    return done.returncode


def _failed(why: str) -> int:
    sys.stderr.write(f"harness guard: blocked, the command guard itself failed: {why}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(inner=INNER in sys.argv[1:]))
