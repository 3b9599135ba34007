"""The training's session on the box: start it once, see whether it lives, stop it, know how it ended.

The launcher (a shell script, in tmux or under setsid) is what lives and dies: it writes its pid,
runs the command with its output appended to the log, and writes the exit status when it ended.
A pid alone proves nothing after a restart, so the process's start time is kept beside it.
"""

# The box may have Python 3.8: typing's old names; and os.path throughout, as strings are what crosses the wire.
# ruff: noqa: PTH100, PTH103, PTH107, PTH111, PTH118, PTH120, PTH123
from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from harness.remote.box.files import expand
from harness.remote.box.machine import process_table, with_descendants

STARTED_WITHIN_S = 10.0
LAUNCHER = """cd {directory} || exit 1
printf '{{"pid": %s, "started": %s}}' "$$" "$(cut -d' ' -f22 /proc/$$/stat)" \\
  > .harness/launch.json.new && mv .harness/launch.json.new .harness/launch.json || exit 1
{exports}{command} >> {log} 2>&1
status=$?
printf '%s\\n' "$status" > .harness/exit_status.new && mv .harness/exit_status.new .harness/exit_status
"""


def main(request: Any) -> None:
    """One verb of ``start``, ``stop`` with its arguments; prints the state afterwards, a line of JSON."""
    answer(request, {"start": start, "stop": stop})


def answer(request: Any, verbs: dict[str, Callable[..., Any]]) -> None:
    """Do what is asked for by its verb; prints the value, or the problem, as a line of JSON."""
    os.chdir(os.path.expanduser("~"))
    verb = verbs[request["verb"]]
    try:
        told = {"value": verb(**request["args"])}
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        told = {"problem": (f"{type(error).__name__}: {error}")[:500]}
    sys.stdout.write(request["marker"] + json.dumps(told) + "\n")


def state(directory: str) -> Any:
    """``{started, alive, pid, exit_status, ended_s}``.

    ``exit_status`` is null while it runs and when it was killed; ``ended_s`` is how many seconds ago it was written.
    """
    known = _launch(directory)
    if known is None:
        return {"started": False, "alive": False, "pid": None, "exit_status": None}
    alive = bool(_family(known))
    status, ended = (None, None) if alive else _exit_status(directory)
    return {"started": True, "alive": alive, "pid": known["pid"], "exit_status": status, "ended_s": ended}


def start(directory: str, name: str, argv: Any, env: Any, log: str, *, job: Any) -> Any:
    """Start the command unless it lives or has ended well; the state, with ``fresh``: whether this call started it.

    ``job`` is kept beside it: what a person who has lost all else reads here of what was started.
    """
    home = os.path.join(os.path.abspath(expand(directory)), ".harness")
    os.makedirs(home, exist_ok=True)
    with open(os.path.join(home, "lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = state(directory)
        if before["alive"] or before["exit_status"] == 0:
            return {**before, "fresh": False}
        for name_of_last in ("launch.json", "exit_status"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(home, name_of_last))
        exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in env.items())
        script = LAUNCHER.format(
            directory=shlex.quote(os.path.dirname(home)),
            exports=exports,
            command=" ".join(shlex.quote(word) for word in argv),
            log=shlex.quote(log),
        )
        if job:
            with open(os.path.join(home, "job.json"), "w") as told:
                json.dump(job, told)
        launcher = os.path.join(home, "launch.sh")
        with open(launcher, "w") as file:
            os.fchmod(file.fileno(), 0o600)  # what is exported may be a key
            file.write(script)
        _spawn(name, launcher, os.path.dirname(home))
        deadline = time.monotonic() + STARTED_WITHIN_S
        while _launch(directory) is None:
            if time.monotonic() > deadline:
                raise ValueError(f"the launcher did not start within {STARTED_WITHIN_S:.0f} s")
            time.sleep(0.02)
    return {**state(directory), "fresh": True}


def stop(directory: str, grace: float = 20.0) -> Any:
    """Ask every process of the session to end, then make it end; the state. An ended one is left as it is."""
    known = _launch(directory)
    if known is None:
        return state(directory)
    for sent, wait in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
        family = _family(known)
        # The launcher outlives its command to write down how it ended; only then it is killed too.
        # Parents come first, or a shell whose children ended would report that all went well.
        for pid in sorted(family if sent == signal.SIGKILL else family - {known["pid"]}):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sent)
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline and _family(known):
            time.sleep(0.05)
        if not _family(known):
            return state(directory)
    raise ValueError(f"processes survive SIGKILL: {sorted(_family(known))}")


def _spawn(name: str, launcher: str, directory: str) -> None:
    """Start the launcher detached: in tmux, so that a person can attach; else in a session of its own."""
    silent: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    if shutil.which("tmux") is not None and not _runs_another(name, launcher):
        # A session of that name may be left of a shell somebody opened in it, or of a launcher that was killed.
        subprocess.run(["tmux", "kill-session", "-t", "=" + name], check=False, stderr=subprocess.DEVNULL)
        inside = f"exec sh {shlex.quote(launcher)}"
        words = ["tmux", "new-session", "-d", "-s", name, "-c", directory, inside]
        if subprocess.run(words, **silent, timeout=STARTED_WITHIN_S, check=False).returncode == 0:
            return
    subprocess.Popen(["sh", launcher], cwd=directory, **silent, start_new_session=True)


def _runs_another(name: str, launcher: str) -> bool:
    """True when another directory's launcher lives in the tmux session of that name."""
    panes = ["tmux", "list-panes", "-s", "-t", "=" + name, "-F", "#{pane_pid}"]
    listed = subprocess.run(panes, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    for pid in listed.stdout.split():
        try:
            with open(b"/proc/" + pid + b"/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if words[1:] and words[1].endswith(b"/.harness/launch.sh") and words[1] != os.fsencode(launcher):
            return True
    return False


def _launch(directory: str) -> Any:
    try:
        with open(os.path.join(expand(directory), ".harness", "launch.json")) as file:
            known = json.load(file)
    except FileNotFoundError:
        return None
    if not isinstance(known.get("pid"), int) or "started" not in known:
        raise ValueError(".harness/launch.json is damaged")
    return known


def _exit_status(directory: str) -> Any:
    try:
        with open(os.path.join(expand(directory), ".harness", "exit_status")) as file:
            return int(file.read(20)), max(0.0, time.time() - os.fstat(file.fileno()).st_mtime)
    except FileNotFoundError:
        return None, None


def _family(launch: Any) -> set[int]:
    """Living processes of a launch: the launcher, its terminal session's processes, and their descendants anywhere.

    Of a dead launcher its session's processes may live on; Linux reuses no pid that is still a session's.
    """
    table, unreadable = process_table()
    if unreadable:
        raise PermissionError(f"{unreadable} processes cannot be looked at")
    launcher = launch["pid"]
    if launcher in table and table[launcher]["started"] != launch["started"]:
        return set()
    living = {pid: seen for pid, seen in table.items() if seen["state"] not in ("Z", "X")}
    family = {pid for pid, seen in living.items() if pid == launcher or seen["session"] == launcher}
    return with_descendants(family, living)
