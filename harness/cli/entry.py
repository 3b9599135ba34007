"""The beginning of the ``harness`` command: a coding agent's hook is answered before anything else is loaded.

The hook runs before every command of an agent, and an agent takes a failure to start for a yes. So
it waits for no other part of the command line, and no other part can keep it from blocking.
"""

from __future__ import annotations

import io
import sys

from harness.cli import VERSION_LINE

_INTERRUPTED = 130
"""The exit code after Ctrl-C; nothing is lost, the same command goes on."""


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
    try:
        from harness.cli.main import main as command_line  # noqa: PLC0415  # see above

        command_line()
    except (KeyboardInterrupt, SystemExit) as ended:  # the command line's library makes the latter of the former
        code = _INTERRUPTED if isinstance(ended, KeyboardInterrupt) else ended.code
        if code == _INTERRUPTED:
            sys.stderr.write("interrupted; nothing is lost: the same command goes on\n")
        sys.exit(code)
