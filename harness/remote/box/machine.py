"""Questions about the machine: commands, Pythons, processes, terminals, GPUs."""

# The box may have Python 3.8: typing's old names; and os.path throughout, as strings are what crosses the wire.
# ruff: noqa: PTH115, PTH123, PTH208
from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
from typing import Any

from harness.remote.box.files import expand

ARGV_LIMIT = 64
WORD_LIMIT = 1000
OUTPUT_LIMIT = 1 << 16
LAUNCH_VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "CUDA_VISIBLE_DEVICES")
"""Variables that a distributed launcher sets; no other variable's value leaves the box."""

GPU_FIELDS = ("index", "name", "driver_version", "memory.total", "memory.used", "utilization.gpu", "compute_cap")


def command(argv: Any, cwd: str = "~", timeout: float = 30.0) -> Any:
    """``{status, out, err}`` of a program run without a shell; 127 when there is none; past ``timeout`` a problem.

    Of an output beyond ``OUTPUT_LIMIT`` bytes both ends are told: what a program amounts to, it says last.
    """
    try:
        child = subprocess.Popen(
            [expand(argv[0]), *argv[1:]],
            cwd=expand(cwd),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        return {"status": 127, "out": "", "err": str(error)}
    try:
        out, err = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        raise ValueError(f"{argv[0]} did not end within {timeout:.0f} s") from None
    return {"status": child.returncode, "out": _ends(out), "err": _ends(err)}


def python_packages(python: str, names: Any) -> Any:
    """``{python, packages: {name: version or null}}`` as installed for the named interpreter."""
    code = (
        "import importlib.metadata as m, json, sys\n"
        "def v(n):\n"
        "    try: return m.version(n)\n"
        "    except m.PackageNotFoundError: return None\n"
        "print(json.dumps({'python': sys.version.split()[0], 'packages': {n: v(n) for n in sys.argv[1:]}}))\n"
    )
    ran = command([python, "-I", "-c", code, *names])
    if ran["status"] != 0:
        raise ValueError(f"{python} ended with {ran['status']}: {ran['err'][-300:]}")
    return json.loads(ran["out"])


def gpus() -> Any:
    """``{installed, gpus: [{index, name, driver, memory_*_mib, utilization_percent, compute_cap}]}``.

    Numbers that the driver does not tell (``[N/A]``) are null.
    """
    if shutil.which("nvidia-smi") is None:
        return {"installed": False, "gpus": []}
    ran = command(["nvidia-smi", "--query-gpu=" + ",".join(GPU_FIELDS), "--format=csv,noheader,nounits"])
    if ran["status"] != 0:
        raise ValueError(f"nvidia-smi ended with {ran['status']}: {(ran['out'] + ran['err'])[-300:]}")
    rows = [[cell.strip() for cell in row] for row in csv.reader(ran["out"].splitlines()) if row]
    found = [
        {
            "index": int(index),
            "name": name,
            "driver": driver,
            "memory_total_mib": _number(total),
            "memory_used_mib": _number(used),
            "utilization_percent": _number(busy),
            "compute_cap": capability,
        }
        for index, name, driver, total, used, busy, capability in rows
    ]
    return {"installed": True, "gpus": found}


def tmux_sessions() -> Any:
    """``{installed, sessions: [name]}``; a tmux without a server has no sessions."""
    if shutil.which("tmux") is None:
        return {"installed": False, "sessions": []}
    ran = command(["tmux", "list-sessions", "-F", "#{session_name}"])
    if ran["status"] != 0 and not any(text in ran["err"] for text in ("no server running", "error connecting")):
        raise ValueError(f"tmux ended with {ran['status']}: {ran['err'][-300:]}")
    return {"installed": True, "sessions": ran["out"].split("\n")[:-1] if ran["status"] == 0 else []}


def processes(directory: str) -> Any:
    """Processes working in or below a directory, and all their descendants.

    ``{processes: [{pid, ppid, state, argv, cwd, env}], unreadable}``: ``env`` has only what launchers set;
    ``unreadable`` counts processes of other users that could not be looked at.
    """
    table, unreadable = process_table()
    top = os.path.realpath(expand(directory))
    chosen = set()
    for pid, process in table.items():
        try:
            process["cwd"] = os.readlink(f"/proc/{pid}/cwd")
        except PermissionError:
            unreadable += 1
        except (FileNotFoundError, ProcessLookupError):
            continue
        else:
            if (process["cwd"] + "/").startswith(top + "/"):
                chosen.add(pid)
    found = with_descendants(chosen, table) - {os.getpid()}
    return {"processes": [_process(pid, table[pid]) for pid in sorted(found)], "unreadable": unreadable}


def process_table() -> Any:
    """``{pid: {state, ppid, session, started}}`` (proc(5)), and how many processes could not be looked at.

    ``started`` tells a reused pid apart.
    """
    table = {}
    unreadable = 0
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                state, ppid, _, session, *more = file.read().rpartition(b")")[2].split()
        except PermissionError:
            unreadable += 1
            continue
        except (FileNotFoundError, ProcessLookupError):
            continue
        table[pid] = {"state": state.decode(), "ppid": int(ppid), "session": int(session), "started": int(more[15])}
    return table, unreadable


def with_descendants(pids: set[int], table: dict[int, Any]) -> set[int]:
    """Processes and everything that descends from them."""
    more = pids
    while more:
        more = {pid for pid, process in table.items() if process["ppid"] in pids} - pids
        pids = pids | more
    return pids


def _process(pid: int, known: Any) -> Any:
    argv: list[str] = []
    env = {}
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            argv = [_text(word, WORD_LIMIT) for word in file.read(1 << 16).split(b"\0")[:-1][:ARGV_LIMIT]]
        with open(f"/proc/{pid}/environ", "rb") as file:
            pairs = [pair.partition(b"=") for pair in file.read(1 << 20).split(b"\0")]
        env = {_text(k, 100): _text(v, 200) for k, _, v in pairs if k.decode("ascii", "replace") in LAUNCH_VARIABLES}
    except OSError:
        env = {}  # it ended, or is another user's; what was read before stands
    return {
        "pid": pid,
        "ppid": known["ppid"],
        "state": known["state"],
        "argv": argv,
        "cwd": known.get("cwd", ""),
        "env": env,
    }


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return None


def _ends(data: bytes) -> str:
    """Both ends in one text. No line begins at the gap, so that no end of a line is taken for a line."""
    if len(data) <= OUTPUT_LIMIT:
        return _text(data, OUTPUT_LIMIT)
    half = OUTPUT_LIMIT // 2
    return f"{_text(data, half)}[... {len(data) - 2 * half} bytes are left out ...]{_text(data[-half:], half)}"


def _text(data: bytes, limit: int) -> str:
    return data[:limit].decode("utf-8", "replace")
