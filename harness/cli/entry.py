"""The beginning of the ``harness`` command: a coding agent's hook is answered before anything else is loaded.

The hook runs before every command of an agent, and an agent takes a failure to start for a yes. So
it waits for no other part of the command line, and no other part can keep it from blocking.
"""

from __future__ import annotations

import contextlib
import gc
import io
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from harness.cli import VERSION_LINE

_INTERRUPTED = 130
"""The exit code after Ctrl-C; the same command goes on."""
_SIGNALLED = 128
"""Added to the number of the signal that ended the process: 143 is SIGTERM, as a shell counts it."""
_ENDING = ("SIGTERM", "SIGHUP", "SIGBREAK")
"""Requests to end, each where the platform has it: the system's own, a terminal that closed, Windows' Ctrl-Break."""


def main() -> None:
    """The entry point."""
    if sys.argv[1:] == ["guard", "--hook"]:
        from harness.shellguard.__main__ import main as hook  # noqa: PLC0415  # see above

        sys.exit(hook(judging="harness.cli.judging"))
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(VERSION_LINE + "\n")
        sys.exit(0)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a help page has characters that a code page lacks
    told: list[signal.Signals] = []
    gc.disable()  # until the command is loaded: none of that is garbage, and the search is a tenth of the start
    try:
        with _ending_like_ctrl_c(told):
            from harness.cli.main import main as command_line  # noqa: PLC0415  # see above

            command_line()
    except (KeyboardInterrupt, SystemExit) as ended:  # the command line's library makes the latter of the former
        code = _INTERRUPTED if isinstance(ended, KeyboardInterrupt) else ended.code
        if code == _INTERRUPTED:
            by = "".join(f" by {number.name}" for number in told)
            with contextlib.suppress(OSError):  # a pipe that nobody reads changes no exit code
                sys.stderr.write(f"interrupted{by}; what was done is recorded: the same command goes on\n")
            code = next((_SIGNALLED + number for number in told), code)
        sys.exit(code)
    finally:
        gc.enable()


@contextlib.contextmanager
def _ending_like_ctrl_c(told: list[signal.Signals]) -> Iterator[None]:
    """Have a request to end do what Ctrl-C does, once; a second one ends the process. ``told`` gets those that came."""

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        told.append(signal.Signals(number))
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt(told[-1].name)

    numbers = [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    taken = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]  # nohup has its own ignored
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
