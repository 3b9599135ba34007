"""A real OpenSSH server on a loopback port, with a home of its own: the box of tests and benchmarks.

Needs OpenSSH's sshd on this machine; as root it also needs /run/sshd.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from harness.core.ports import Endpoint
from harness.emulator.freeport import free_port
from harness.remote.ssh.connection import Login
from harness.remote.ssh.keys import generate_keypair, public_key

SSHD = shutil.which("sshd") or next((p for p in ("/usr/sbin/sshd", "/usr/local/sbin/sshd") if Path(p).exists()), None)


class LocalSshd:
    """sshd in the foreground; ``home`` is the HOME of everything that runs over it."""

    def __init__(self, directory: Path, environment: dict[str, str] | None = None) -> None:
        if SSHD is None:
            raise FileNotFoundError("sshd is not installed")
        self.directory = directory
        self.home = directory / "home"
        self.home.mkdir(parents=True)
        (directory / "tmux").mkdir()
        self.port = free_port()
        self.client_key = directory / "client_key"
        self.host_key = directory / "host_key"
        (directory / "authorized_keys").write_text(generate_keypair(self.client_key) + "\n")
        generate_keypair(self.host_key)
        # sshd sets HOME from the password database; a shell in front of every command gives it the box's own.
        self._environment = {"HOME": str(self.home), "TMUX_TMPDIR": str(directory / "tmux"), **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def login(self, port: int | None = None) -> Login:
        """How to log in, with the host key pinned; over another port when a proxy stands in between."""
        return Login(
            getpass.getuser(),
            (Endpoint("127.0.0.1", port or self.port),),
            self.client_key,
            host_keys=(public_key(self.host_key),),
        )

    def start(self) -> None:
        """Start and wait until it accepts connections."""
        wrapper = self.directory / "wrapper.sh"
        exports = "".join(f"export {name}='{value}'\n" for name, value in self._environment.items())
        wrapper.write_text(f'{exports}cd "$HOME" && eval "$SSH_ORIGINAL_COMMAND"\n')
        config = self.directory / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {self.host_key}\n"
            f"AuthorizedKeysFile {self.directory / 'authorized_keys'} {self.home / '.ssh' / 'authorized_keys'}\n"
            "StrictModes no\nPidFile none\n"
            # bash sources ~/.bashrc for sshd at shell level 1: the operator's start-up files are not the box's.
            "SetEnv SHLVL=2\n"
            "PasswordAuthentication no\nUsePAM no\nMaxStartups 100\nMaxSessions 100\nLogLevel VERBOSE\n"
            f"Subsystem sftp /usr/lib/openssh/sftp-server\nForceCommand sh {wrapper}\n"
        )
        if os.name == "posix" and os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        log = (self.directory / "sshd.log").open("ab")
        self._process = subprocess.Popen(
            [str(SSHD), "-D", "-f", str(config), "-E", str(self.directory / "sshd.log")],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.directory / "sshd.log").read_text()) from None
                time.sleep(0.02)
            else:
                return

    def processes(self) -> list[int]:
        """The server and everything that runs over it."""
        return [] if self._process is None else [*_descendants(self._process.pid), self._process.pid]

    def kill(self) -> None:
        """End the server and every session of it, as a crash of the box would."""
        if self._process is None:
            return
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """End everything, the terminals of the box as well."""
        self.kill()
        if shutil.which("tmux"):
            # TMUX names the terminal in which the tests may run themselves; it comes before the directory.
            environment = {name: value for name, value in os.environ.items() if name != "TMUX"}
            environment["TMUX_TMPDIR"] = str(self.directory / "tmux")
            subprocess.run(["tmux", "kill-server"], check=False, env=environment, capture_output=True)


def _descendants(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], check=True, capture_output=True, text=True).stdout
    parents = {int(child): int(parent) for child, parent in (line.split() for line in listed.splitlines())}
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found and child not in found}:
        found |= more
    return sorted(found - {pid})
