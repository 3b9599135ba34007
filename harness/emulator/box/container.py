"""The box's processes: a container where the kernel permits one, plain processes otherwise.

A container is a process 1 in user, mount and process namespaces of its own, without
root on this machine (Linux: user_namespaces(7)). It lives apart from the emulator:
it survives an emulator that is killed, and is found again by its recorded number
and start time. Everywhere else the box's processes are plain ones, known by a mark
in their environment, and only HOME-relative paths are the box's own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import psutil

from harness.core import durable
from harness.core.errors import HarnessError
from harness.core.ids import new_nonce
from harness.emulator.box.layout import TOOLS, VENV, Layout, operator_packages

MARK = "HARNESS_EMULATED_BOX"
"""The environment variable that says which box a process belongs to."""

START_S = 20.0
END_S = 10.0
KILL_ROUNDS = 20
SAME_START_S = 5.0
"""Start times are reckoned from the machine's boot time, which moves a little when its clock is set."""
_TMP = "/tmp"  # noqa: S108  # the box's own
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_READ_ONLY = ("/usr", "/etc", "/opt", "/nix", "/sys", "/run/systemd/resolve")


class BoxFailed(HarnessError):
    """The emulated box could not be started."""

    default_remedy = "Try the scenario setting isolation = 'none', or look at container.log in the state directory."


@dataclass(frozen=True, slots=True)
class Container:
    """The processes of one box, running or not. All calls block for at most some seconds."""

    layout: Layout
    isolated: bool

    def start(self, onstart: str, env: Mapping[str, str]) -> None:
        """Start it and let onstart run with ``env``, its output in the container log. Raises BoxFailed."""
        self.kill()
        script = self.layout.root / "tmp" / ".onstart.sh"
        script.write_text(onstart or ":\n", "utf-8")
        inside = f"{_TMP}/.onstart.sh" if self.isolated else str(script)
        command = [_shell(), inside]
        full = {**env, **self.environment()}
        with self.layout.log.open("ab") as log:
            if self.isolated:
                self._start_isolated(command, full, log.fileno())
            else:
                _detach(command, "", log.fileno(), full, self.layout.home)
                durable.write(self._holder_file, b"{}")

    def alive(self) -> bool:
        """True while the container runs; without isolation nobody can tell, and it counts as running once started."""
        if not self.isolated:
            return self._holder_file.exists()
        return self._holder() is not None

    def kill(self) -> None:
        """End every process of the box, at once."""
        holder = self._holder() if self.isolated else None
        if holder is not None:
            _end([holder])
        for _ in range(KILL_ROUNDS):  # one that is just being started is seen by the next look
            left = self.processes()
            if not left:
                break
            _end(left)
        self._holder_file.unlink(missing_ok=True)

    def processes(self) -> list[psutil.Process]:
        """Every process of the box, as this machine sees it."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self._mark:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def wrap(self, command: Sequence[str]) -> list[str]:
        """The command line that runs a command inside the box."""
        if not self.isolated:
            return list(command)
        holder = self._holder()
        if holder is None:
            raise BoxFailed("the container is not running")
        return [*_NSENTER, f"--target={holder.pid}", "--", *command]

    def login(self, command: str | None) -> list[str]:
        """The command line of a login: a command through the shell, or a login shell."""
        how = ["-l"] if command is None else ["-c", command]
        return self.wrap([_shell(), "-c", 'cd "$HOME" && exec "$0" "$@"', _shell(), *how])

    def rsync_daemon(self, command: str | None) -> list[str]:
        """The command line that serves the box's files to a client's rsync, and refuses whatever else it asks for.

        It is the host's program, outside the box as on the service, and sees the box's directory only.
        """
        if command is None or command.split() != ["rsync", "--server", "--daemon", "."]:
            raise BoxFailed("this user may only copy with rsync")
        number, own = self.layout.base.name, "uid = 0\ngid = 0\n" if os.geteuid() == 0 else ""
        modules = (f"[{name}]\npath = {self.layout.root}\nread only = no\n" for name in (number, f"C.{number}"))
        settings = self.layout.base / "rsyncd.conf"
        durable.write(settings, f"use chroot = no\n{own}{''.join(modules)}".encode())
        return ["rsync", "--server", "--daemon", f"--config={settings}", "."]

    def environment(self) -> dict[str, str]:
        """Environment of a login: nothing of the operator's, nothing of the create's ``env``."""
        home, root = ("/root", "") if self.isolated else (str(self.layout.home), str(self.layout.root))
        env = {
            "HOME": home,
            "USER": "root",
            "LOGNAME": "root",
            "SHELL": _shell(),
            "PATH": f"{root}/{TOOLS}:{root}/{VENV}/bin:{_SYSTEM_PATH}",
            "LANG": "C.UTF-8",
            "TMPDIR": f"{root}{_TMP}",
            "TMUX_TMPDIR": _TMP if self.isolated else str(self._short_tmp()),
            MARK: self._mark,
        }
        if not self.isolated:
            env["PATH"] += ":" + os.environ.get("PATH", "")
        return env

    def _start_isolated(self, command: list[str], env: Mapping[str, str], log: int) -> None:
        for old in self.layout.base.glob("ready.*"):
            old.unlink(missing_ok=True)
        # A name of its own: the shell of the container before may still have its last word to say, into its own file.
        ready = self.layout.base / f"ready.{new_nonce()}"
        spec = self.layout.base / "container.json"
        spec.write_text(
            json.dumps(
                {
                    "root": str(self.layout.root),
                    "read_only": [p for p in (*_READ_ONLY, *_python_paths()) if Path(p).exists()],
                    "env": dict(env),
                    "home": "/root",
                    "own": [
                        ["/etc/ssh", str(self.layout.base / "etc_ssh")],
                        *([place, str(volume)] for place, volume in self.layout.mounts().items()),
                    ],
                    "command": command,
                    "ready": str(ready),
                }
            ),
            "utf-8",
        )
        program = Path(__file__).with_name("container_init.py")
        command = [*_UNSHARE, sys.executable, "-I", "-S", str(program), str(spec)]
        _detach(command, str(ready), log, {"PATH": _SYSTEM_PATH}, self.layout.base)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            said = ready.read_text("utf-8") if ready.exists() else ""
            if said.isdecimal():
                self._remember(int(said))
                return
            if said:
                raise BoxFailed(f"the container did not start: {said.strip()}")
            time.sleep(0.005)
        raise BoxFailed(f"the container did not start in {START_S:g} s; see {self.layout.log}")

    def _remember(self, pid: int) -> None:
        try:
            started = psutil.Process(pid).create_time()
        except psutil.Error:
            raise BoxFailed(f"the container ended at once; see {self.layout.log}") from None
        durable.write(self._holder_file, json.dumps({"pid": pid, "started": started}).encode())

    def _holder(self) -> psutil.Process | None:
        try:
            known = json.loads(self._holder_file.read_text("utf-8"))
            process = psutil.Process(int(known["pid"]))
            same = abs(process.create_time() - known["started"]) < SAME_START_S
            same = same and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, KeyError, psutil.Error):
            return None
        return process if same else None

    @property
    def _mark(self) -> str:
        return sha256(str(self.layout.base.resolve()).encode()).hexdigest()[:16]

    @property
    def _holder_file(self) -> Path:
        return self.layout.base / "holder.json"

    def _short_tmp(self) -> Path:
        # A tmux socket's path may hold about a hundred bytes (unix(7): sun_path is 108).
        path = Path(tempfile.gettempdir()) / f"emulated-{self._mark}"
        path.mkdir(mode=0o700, exist_ok=True)
        return path


_NSENTER = ("nsenter", "--user", "--mount", "--pid", "--root", "--wd", "--preserve-credentials")
_UNSHARE = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child")


@cache
def can_isolate() -> bool:
    """True when this machine lets an ordinary user make a container."""
    tools = ("unshare", "nsenter")
    if sys.platform != "linux" or not all(shutil.which(tool, path=_SYSTEM_PATH) for tool in tools):
        return False
    env = {"PATH": _SYSTEM_PATH}
    line = [*_UNSHARE, "sh", "-c", "mount -t proc proc /proc && chroot / true"]
    try:
        done = subprocess.run(line, env=env, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _python_paths() -> list[str]:
    wanted = [Path(sys.base_prefix), Path(sys.prefix), *operator_packages()]
    outside_usr = [path for path in wanted if not path.is_relative_to("/usr")]
    roots = [p for p in outside_usr if not any(p != other and p.is_relative_to(other) for other in outside_usr)]
    return sorted({str(path) for path in roots})


@cache
def _shell() -> str:
    return "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"


def _detach(command: Sequence[str], ended: str, log: int, env: Mapping[str, str], cwd: Path) -> None:
    """Start a command that is nobody's child; a word is left in the file ``ended``, if one is named, when it ends."""
    script = '("$@"; [ -z "$0" ] || [ -s "$0" ] || echo "it ended at once" >"$0") </dev/null &'
    try:
        subprocess.run(
            ["/bin/sh", "-c", script, ended, *command],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            check=True,
            timeout=START_S,
        )
    except subprocess.SubprocessError as error:
        raise BoxFailed(f"a process of the box could not be started: {error}") from None


def _end(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    deadline = time.monotonic() + END_S
    while not all(_has_ended(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(0.005)


def _has_ended(process: psutil.Process) -> bool:
    """True when it runs no more, a zombie included: some parents never ask for its status."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
