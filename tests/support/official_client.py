"""The official command line client, unmodified, in one process that runs line after line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DRIVER = """
import contextlib, io, json, os, sys, traceback
asked, answers = sys.stdin, os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
sys.stdin = io.StringIO()
from vastai.cli import main as cli
sys.argv = ["vastai", "--version"]
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    cli.main()
for line in asked:
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.run_command(cli.parser.parse_args(json.loads(line)))
        except SystemExit as end:
            code = end.code or 0
            if isinstance(code, str):
                print(code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
            code = 1
    status = int(code) if isinstance(code, int) else 1
    print(json.dumps([status, out.getvalue(), err.getvalue()]), file=answers, flush=True)
"""


@dataclass(frozen=True, slots=True)
class Said:
    """Everything that the client said to one line, and the status it would have ended with."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams."""
        return self.out + self.err

    def json(self) -> Any:
        """The answer to ``--raw``."""
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class OfficialClient:
    """The client in its process."""

    _process: subprocess.Popen[str]

    def __call__(self, url: str, key: str, *words: str) -> Said:
        """Run ``vastai --url URL --api-key KEY WORDS``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(["--url", url, "--api-key", key, *words]) + "\n")
        self._process.stdin.flush()
        return Said(*json.loads(self._process.stdout.readline()))


@contextmanager
def official_client(url: str, home: Path) -> Iterator[OfficialClient]:
    """Run the client with a home of its own and no look for updates; it asks ``url`` for GPU names when it starts."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "VAST_URL": url,
        "VASTAI_NO_UPDATE_CHECK": "1",
        "COLUMNS": "300",
        "NO_COLOR": "1",
    }
    line = [sys.executable, "-c", _DRIVER]
    with subprocess.Popen(line, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=home) as process:
        try:
            yield OfficialClient(process)
        finally:
            process.kill()
