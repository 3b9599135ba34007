"""The system's own ssh as a carrier of one stream: it writes the file itself, which costs this machine the least.

ssh's standard output is the unfinished file. Where ssh stands in it tells how much arrived, so not
one byte passes through Python, which is left to hash what is on the disk. The box's answers come
over the standard error, behind a mark that only this stream knows.

A box that sends more than it was asked for writes behind the range: never past the end of the
file where the system can forbid it (Linux), and never unnoticed, for the last range of a stream
counts only once ssh is dead and stands where that range ends.

ssh outlives a client that is killed, for as long as the box likes. The file is locked by all who
inherited it, and the next client begins when it is free.

It is never needed: paramiko can do everything that is done here, and takes over when ssh brings nothing.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path

from harness.core import durable
from harness.core.errors import HostUnreachable, TransferFailed
from harness.core.ports import Endpoint, RemoteFile
from harness.remote.ssh.connection import CIPHERS, CONNECT_TIMEOUT_S, KEEPALIVE_S, Login, describe
from harness.remote.transfer.journal import no_room_told
from harness.remote.transfer.streams import Range, answer, odd_answer, request

LOOK_S = 0.01
"""How often ssh's place in the file is looked at while the box says nothing."""

LONGEST_LINE = 4096
MOST_LINES = 100
"""Of answers that nobody waits for: no honest box says as many, and another one must not fill the memory."""


def installed() -> str | None:
    """The path of ssh, where it can be used: on Windows nobody promises that two processes share a file's position."""
    return shutil.which("ssh") if os.name == "posix" else None


def command(ssh: str, login: Login, endpoint: Endpoint, known_hosts: Path) -> list[str]:
    """The arguments that log in as paramiko would: this key, the pinned host keys, and nothing of the user's own."""
    key = str(login.key_file).replace("%", "%%")  # ssh fills in what follows a single one
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
        "IdentityFile": f'"{key}"',
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


class OpensshStream:
    """Ranges that lie one behind the other, written to the unfinished file by an ssh process of its own.

    ``begin`` is the program's start, and ``mark`` what stands before every line that it says.
    """

    def __init__(
        self, login: Login, remote_command: str, begin: bytes, *, mark: str, remote: RemoteFile, part: Path
    ) -> None:
        ssh = installed()
        keys = login.pinning().known()
        if ssh is None or not keys:
            raise HostUnreachable("ssh is not installed, or no host key is pinned yet")
        self._mark = mark.encode()
        self._remote = remote
        self._said = b""
        self._lines: deque[bytes] = deque(maxlen=MOST_LINES)
        self._counted = 0
        """Where the bytes end that were told to have arrived."""
        self._asked: int | None = None
        """Where the bytes end that were asked for."""
        self._ended = False
        with contextlib.ExitStack() as undo:
            with no_room_told(part):
                self._file = undo.enter_context(part.open("r+b", buffering=0))
            durable.hold(self._file.fileno())
            undo.callback(self._file.truncate, remote.size)  # what was written behind the end goes
            handle, name = tempfile.mkstemp(prefix="harness-known-hosts-")
            self._known_hosts = Path(name)
            undo.callback(self._known_hosts.unlink, missing_ok=True)
            with os.fdopen(handle, "w", encoding="ascii") as known_hosts:
                known_hosts.writelines(f"box {key}\n" for key in keys)
            # Until the program is ready, whatever a login shell says stays behind the end of the file.
            self._file.seek(remote.size)
            try:
                self._process = subprocess.Popen(
                    [*command(ssh, login, login.endpoints[0], self._known_hosts), remote_command],
                    stdin=subprocess.PIPE,
                    stdout=self._file,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                )
            except OSError as error:
                raise HostUnreachable(f"ssh does not start: {describe(error)}") from error
            undo.callback(self._process.wait)
            if self._process.stdin is None or self._process.stderr is None:
                raise HostUnreachable("ssh has no pipes")
            self._in = undo.enter_context(self._process.stdin)
            self._err = undo.enter_context(self._process.stderr)
            undo.callback(self._process.kill)
            _confine(self._process.pid, remote.size)
            self._send(begin)
            self._release = undo.pop_all()

    def fits(self, wanted: Range) -> bool:
        """Whether the range begins where the one before it ends."""
        return not self._ended and self._asked in {None, wanted.offset}

    def ask(self, wanted: Range) -> None:
        """Request a range; before the first one, wait for the program."""
        if self._asked is None:
            self._begin(wanted)
        self._asked = wanted.end
        self._send(request(wanted))

    def receive(self, wanted: Range, arrived: Callable[[int], None]) -> str:
        """Wait until ssh has written the range; see ``Stream.receive``."""
        try:
            return self._written(wanted, arrived)
        except BaseException:
            self._end()  # from here on nothing is written any more, and what was written counts
            self._count(wanted, arrived)
            raise

    def settle(self) -> None:
        """End ssh; it has to stand where the last range ends. Raises TransferFailed."""
        self._end()
        self._within_the_asked()

    def interrupt(self) -> None:
        """End ssh: a waiting ``receive`` hears of it. For other threads than the receiving one."""
        self._process.kill()

    def close(self) -> None:
        """End ssh and release its pipes."""
        self._ended = True
        self._release.close()

    def _begin(self, first: Range) -> None:
        while not self._lines:
            if not self._listen():
                raise HostUnreachable("ssh does not reach the box, or no program starts there")
        line = self._lines.popleft()
        if line != b"ready":
            answer(line, first, self._remote)
            raise odd_answer(self._remote, line)
        self._known_hosts.unlink(missing_ok=True)  # ssh is past it, and a client that is killed leaves nothing
        if self._file.tell() != self._remote.size:
            raise HostUnreachable("the box's login shell writes to the standard output")
        self._file.seek(first.offset)
        self._counted = first.offset

    def _written(self, wanted: Range, arrived: Callable[[int], None]) -> str:
        identity = None
        while True:
            if identity is None and self._lines:
                identity = answer(self._lines.popleft(), wanted, self._remote)
            self._count(wanted, arrived)
            if identity is not None and self._counted == wanted.end:
                return identity
            if not self._listen():
                raise HostUnreachable(f"the stream of {self._remote.path} ended early")

    def _count(self, wanted: Range, arrived: Callable[[int], None]) -> None:
        here = min(self._within_the_asked(), wanted.end)
        arrived(here - self._counted)
        self._counted = here

    def _within_the_asked(self) -> int:
        """Where ssh stands in the file."""
        here = self._file.tell()
        if self._asked is None or here > self._asked:
            raise TransferFailed(
                f"the box sends more of {self._remote.path} than it was asked for",
                remedy="Run the command again: what came is hashed anew. Do not trust a box that does it twice.",
            )
        return here

    def _listen(self) -> bool:
        """Hear what the box says, for a moment; False when ssh has ended and was heard out."""
        if not select.select([self._err], [], [], LOOK_S)[0]:
            return True
        said = self._err.read(LONGEST_LINE) or b""
        *lines, self._said = (self._said + said).split(b"\n")
        self._said = self._said[-LONGEST_LINE:]
        self._lines.extend(line.partition(self._mark)[2] for line in lines if self._mark in line)
        return bool(said)

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[self._in.write(view) or 0 :]
        except (OSError, ValueError) as error:
            raise HostUnreachable(f"ssh was cut: {describe(error)}") from error

    def _end(self) -> None:
        self._ended = True
        self._process.kill()
        self._process.wait()


def _confine(pid: int, size: int) -> None:
    """Let a process write no file longer than ``size`` bytes."""
    if sys.platform == "linux":
        import resource  # noqa: PLC0415 - POSIX only

        with contextlib.suppress(OSError):  # it has ended
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, size))
