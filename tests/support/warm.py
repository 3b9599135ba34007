"""Commands of the harness by forks of one interpreter that has loaded it, and the gates' pytest by forks of that.

A command with nine gates starts ten interpreters, and each loads the same modules for most of a second. Here they are
loaded once for a whole run of tests. Each command and each gate is a process of its own all the same, with its
environment, its folder and its exit status; none has judged or remembered anything before. Starts from nothing are
what the tests of the judge, of the wheel and of the whole job prove.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LOADED = ("_pytest.config", "harness.cli.run", "harness.ledger.sql", "harness.plugin.judging", "harness.remote.host")
"""Modules that a command or a gate asks for, with all that they ask for."""
_DIGITS = 8


@dataclass(slots=True)
class Warm:
    """The line to an interpreter that forks when it is asked."""

    line: socket.socket
    lock: threading.Lock = field(default_factory=threading.Lock)
    TimeoutExpired = subprocess.TimeoutExpired

    def run(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | str | None = None,
        timeout: float | None = None,
        text: bool = False,
        **told: Any,
    ) -> subprocess.CompletedProcess[Any]:
        """``subprocess.run`` of ``[sys.executable, "-m", MODULE, ...]`` that captures its output and reads no input."""
        python, dash, *words = command
        assert (python, dash) == (sys.executable, "-m")
        assert told.pop("capture_output")
        assert not told.pop("check")
        assert told.pop("stdin", subprocess.DEVNULL) == subprocess.DEVNULL
        assert not told
        with self.lock, TemporaryDirectory(prefix="warm-") as scratch:
            said = Path(scratch, "out"), Path(scratch, "err")
            order = {"words": words, "env": {**env}, "cwd": str(cwd or Path.cwd()), "said": [*map(str, said)]}
            message = json.dumps(order).encode()
            self.line.sendall(_number(len(message)) + message)
            pid = _told(self.line)
            self.line.settimeout(timeout)
            try:
                status = _told(self.line)
            except TimeoutError:
                os.killpg(pid, signal.SIGKILL)
                self.line.settimeout(None)
                _told(self.line)
                raise subprocess.TimeoutExpired(command, timeout or 0.0) from None
            finally:
                self.line.settimeout(None)
            out, err = (path.read_text("utf-8") if text else path.read_bytes() for path in said)
            return subprocess.CompletedProcess(command, status, out, err)


@cache
def warm() -> Warm:
    """The interpreter of this process's tests; it ends with them."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "tests.support.warm", str(theirs.fileno())]
    process = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return Warm(ours)


def _number(value: int) -> bytes:
    return b"%*d" % (_DIGITS, value)


def _told(line: socket.socket) -> int:
    """The next number of the line; raises EOFError at its end."""
    return int(_exactly(line, _DIGITS))


def _exactly(line: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        more = line.recv(size - len(got))
        if not more:
            raise EOFError
        got += more
    return got


def _serve(line: socket.socket) -> None:
    """Fork for every order until the line ends; a fork returns from here by the exit of what it runs."""
    while True:
        try:
            order = json.loads(_exactly(line, _told(line)))
        except EOFError:
            return
        pid = os.fork()
        if not pid:
            line.close()
            _become(order)
        line.sendall(_number(pid))
        line.sendall(_number(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))


def _become(order: Mapping[str, Any]) -> None:
    """Be the command that was ordered, and end."""
    os.setsid()
    for number, path in enumerate(order["said"], 1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    module, *words = order["words"]
    sys.argv = [module, *words]
    sys.path[0] = order["cwd"]
    if module == "harness":
        _judge_warm()
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit()


def _judge_warm() -> None:
    """Let this process's gates be judged by forks of what it is before it has done anything."""
    ours, theirs = socket.socketpair()
    if not os.fork():
        ours.close()
        _serve(theirs)
        os._exit(0)
    theirs.close()
    import_module("harness.gates.judge").subprocess = Warm(ours)  # type: ignore[attr-defined]


if __name__ == "__main__":
    for loaded in LOADED:
        import_module(loaded)
    gc.freeze()  # a fork that looked for garbage among all this would copy it
    _serve(socket.socket(fileno=int(sys.argv[1])))
