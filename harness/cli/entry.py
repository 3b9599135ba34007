"""Where the ``harness`` command begins: a coding agent's hook is answered before anything else is loaded.

The hook runs before every command of an agent, and an agent takes a failure to start for a yes. So
it waits for no other part of the command line, and no other part can keep it from blocking.
"""

from __future__ import annotations

import sys


def main() -> None:
    """The entry point."""
    if sys.argv[1:] == ["guard", "--hook"]:
        from harness.shellguard.__main__ import main as hook  # noqa: PLC0415  # see above

        sys.exit(hook())
    from harness.cli.main import main as command_line  # noqa: PLC0415  # see above

    command_line()
