"""The claim on a box, and the keys that it lets in: what is looked at and changed there, by a program sent there.

The claim is a symbolic link whose target is its text: the system makes one whole or not at all, and never a second.
"""

# The box may have Python 3.8: typing's old names; and os.path throughout, as strings are what crosses the wire.
# ruff: noqa: PTH103, PTH105, PTH108, PTH110, PTH111, PTH112, PTH115, PTH118, PTH120, PTH123, PTH211
from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

FOLDER = ".gold-standard-harness"
CLAIM = os.path.join(FOLDER, "claim")
KEYS = os.path.join(".ssh", "authorized_keys")


def main(request: Any) -> None:
    """One verb with its arguments; prints the answer, a line of JSON."""
    os.chdir(os.path.expanduser("~"))
    verbs: dict[str, Callable[..., Any]] = {"look at": look, "claim": claim, "release": release, "admit": admit}
    try:
        answer = {"value": verbs[request["verb"]](**request["args"])}
    except (OSError, ValueError) as error:
        answer = {"problem": (f"{type(error).__name__}: {error}")[:500]}
    sys.stdout.write(request["marker"] + json.dumps(answer) + "\n")


def look() -> Any:
    """``{machine, uid, user, now, claim}``: the claim's own fields, null where nobody has claimed the box."""
    machine = os.uname().nodename
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        with contextlib.suppress(OSError), open(path) as file:
            machine = file.read(64).strip() or machine
            break
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return {"machine": machine, "uid": os.getuid(), "user": user, "now": time.time(), "claim": _claim()}


def claim(terms: Any) -> Any:
    """The claim that holds now: this one, or the one that was there before."""
    os.makedirs(FOLDER, mode=0o700, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.symlink(json.dumps({**terms, "since": time.time()}), CLAIM)
    return _claim()


def release(label: str, key: str, clean: bool) -> Any:
    """Give the claim of this label back: True, or False where there is none of it.

    ``clean``: the job's directory goes first, and the line of ``key`` out of the keys that are let in.
    """
    with open(os.path.join(FOLDER, "lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = _claim()
        if known is None or known.get("label") != label:
            return False
        if clean:
            _clean(str(known.get("directory") or ""))
            _rewrite([line for line in _keys() if line.split()[:2] != key.split()[:2]])
        os.unlink(CLAIM)
    return True


def admit(key: str) -> Any:
    """Let a public key in: True where it was not let in before."""
    lines = _keys()
    if any(key.split()[:2] == line.split()[:2] for line in lines):
        return False
    os.makedirs(os.path.dirname(KEYS), mode=0o700, exist_ok=True)
    _rewrite([*lines, key])
    return True


def _claim() -> Any:
    try:
        told = os.readlink(CLAIM)
    except FileNotFoundError:
        return None
    known = json.loads(told)
    if not isinstance(known, dict) or not isinstance(known.get("label"), str):
        raise ValueError(f"{CLAIM} does not read as a claim")  # noqa: TRY004 - a problem of what lies there
    return known


def _clean(directory: str) -> None:
    """Delete a directory in which a package was put by the harness; never the home, nor what the home lies in."""
    home, top = os.path.realpath("."), os.path.realpath(os.path.expanduser(directory))
    if not os.path.isdir(top):
        return
    if not directory or (home + "/").startswith(top + "/") or not os.path.isdir(os.path.join(top, ".harness")):
        raise ValueError(f"{top} is not deleted: it is no folder of a package that was sent here")
    shutil.rmtree(top)


def _keys() -> list[str]:
    try:
        with open(KEYS) as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def _rewrite(lines: list[str]) -> None:
    """The file of keys, whole at any moment, and readable by its owner alone: sshd reads no other."""
    if not lines and not os.path.exists(KEYS):
        return
    fresh = KEYS + ".new"
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write("".join(f"{line}\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, os.path.realpath(KEYS))
