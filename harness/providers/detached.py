"""Starting a process that outlives this one, whatever ends it.

It is started by a helper process that ends at once, so that it is nobody's child: no
signal, closed terminal or kill of the caller reaches it, and nobody must wait for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.core.errors import HarnessError
from harness.core.text import printable

_HELPER_S = 30


def spawn(argv: Sequence[str], *, cwd: Path, output: Path) -> int:
    """Start a program, its output in a private file; the process id. Raises HarnessError when it cannot be started."""
    helper = [sys.executable, "-m", "harness.providers.detached", str(cwd), str(output), *argv]
    try:
        done = subprocess.run(helper, capture_output=True, text=True, timeout=_HELPER_S, check=True)
        return int(done.stdout)
    except subprocess.CalledProcessError as error:
        reason = str(error.stderr).strip().rpartition("\n")[2]
        raise HarnessError(f"cannot start {argv[0]}: {printable(reason, 300)}") from error
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise HarnessError(f"cannot start {argv[0]}: {error}") from error


def main(arguments: Sequence[str]) -> None:
    """The helper: working directory, output file, then the program and its arguments."""
    cwd, output, *argv = arguments
    with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        child = subprocess.Popen(
            argv, cwd=cwd, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, **_apart()
        )
    sys.stdout.write(f"{child.pid}\n")
    child.returncode = 0  # it goes on after us, and that is no mistake to be warned about


def _apart() -> dict[str, Any]:
    """Out of this process's session (POSIX), or console and group (Windows)."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


if __name__ == "__main__":
    main(sys.argv[1:])
