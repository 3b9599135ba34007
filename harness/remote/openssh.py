"""The system's own ssh as a carrier of streams: less of this machine's CPU a byte than paramiko, where it is installed.

It is never needed: paramiko can do everything that is done here, and takes over at its first failure.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from harness.errors import HostUnreachable
from harness.ports import Endpoint
from harness.remote.ssh import CIPHERS, CONNECT_TIMEOUT_S, KEEPALIVE_S, Login, describe

PIPE_BYTES = 1 << 20
"""What the pipe from ssh holds where the system lets us say so (Linux: F_SETPIPE_SZ, up to 1 MiB for users)."""


def installed() -> str | None:
    """The path of ssh, if there is one."""
    return shutil.which("ssh")


def command(ssh: str, login: Login, endpoint: Endpoint, known_hosts: Path) -> list[str]:
    """The arguments that log in as paramiko would: this key, the pinned host keys, and nothing of the user's own."""
    options = {
        "BatchMode": "yes",
        "Ciphers": ",".join(CIPHERS),
        "ClearAllForwardings": "yes",
        "Compression": "no",
        "ConnectTimeout": str(int(CONNECT_TIMEOUT_S)),
        "ControlMaster": "no",
        "ControlPath": "none",
        "GlobalKnownHostsFile": os.devnull,
        "HostKeyAlias": "box",
        "IdentitiesOnly": "yes",
        "IdentityFile": f'"{login.key_file}"',
        "LogLevel": "ERROR",
        "ServerAliveCountMax": "3",
        "ServerAliveInterval": str(KEEPALIVE_S),
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "UserKnownHostsFile": f'"{known_hosts}"',
    }
    words = [ssh, "-F", "none", "-T", "-a", "-x", "-l", login.user, "-p", str(endpoint.port)]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    return [*words, "--", endpoint.host]


class OpensshPipe:
    """A command on the box, run by an ssh process of its own."""

    carrier = "ssh"

    def __init__(self, login: Login, remote_command: str) -> None:
        ssh = installed()
        keys = login.pinning().known()
        if ssh is None or not keys:
            raise HostUnreachable("ssh is not installed, or no host key is pinned yet")
        with contextlib.ExitStack() as undo:
            handle, name = tempfile.mkstemp(prefix="harness-known-hosts-")
            undo.callback(Path(name).unlink, missing_ok=True)
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.writelines(f"box {key}\n" for key in keys)
            try:
                self._process = subprocess.Popen(
                    [*command(ssh, login, login.endpoints[0], Path(name)), remote_command],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    bufsize=0,
                )
            except OSError as error:
                raise HostUnreachable(f"ssh does not start: {describe(error)}") from error
            undo.callback(self._process.wait)
            if self._process.stdin is None or self._process.stdout is None:
                raise HostUnreachable("ssh has no pipes")
            self._in = undo.enter_context(self._process.stdin)
            self._out = undo.enter_context(self._process.stdout)
            undo.callback(self._process.kill)
            _widen(self._out.fileno())
            self._release = undo.pop_all()

    def write(self, data: bytes) -> None:
        """Send all of it."""
        view = memoryview(data)
        try:
            while view:
                view = view[self._in.write(view) or 0 :]
        except (OSError, ValueError) as error:
            raise HostUnreachable(f"ssh was cut: {describe(error)}") from error

    def read(self, limit: int) -> bytes:
        """Some bytes; none at the end."""
        try:
            return self._out.read(limit) or b""
        except (OSError, ValueError) as error:
            raise HostUnreachable(f"ssh was cut: {describe(error)}") from error

    def status(self) -> int | None:
        """The exit status of the command on the box, or of ssh itself (255); None while it runs."""
        return self._process.poll()

    def interrupt(self) -> None:
        """End ssh: a waiting ``read`` returns nothing. For other threads than the reading one."""
        self._process.kill()

    def close(self) -> None:
        """End ssh and release its pipes."""
        self._release.close()


def _widen(pipe: int) -> None:
    """Let a pipe hold more; an ordinary user is refused when all his pipes hold enough (pipe-user-pages-soft)."""
    if sys.platform == "linux":
        import fcntl  # noqa: PLC0415 - POSIX only

        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
