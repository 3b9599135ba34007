"""Receives files over standard input into one directory: staged by digest, hashed from the disk, renamed into place.

What was staged of a file stays for the next attempt. What is in the directory and belongs
to no package of these files is moved aside, never deleted, and never while a training runs there.
"""

# os.path throughout, as strings are what crosses the wire.
# ruff: noqa: PTH101, PTH103, PTH104, PTH105, PTH106, PTH107, PTH110, PTH111, PTH112, PTH118, PTH120, PTH123, PTH202, PTH208
from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from harness.remote.box import heard, session
from harness.remote.box.files import expand, sha256, tree
from harness.remote.box.outputs import OURS, SESSION, is_output, is_written_there

BLOCK = 1 << 20


def main(request: Any) -> None:
    """Say what is there, move aside what does not belong, then receive: a header line and the bytes for each file.

    ``files`` of the request maps each path to its SHA-256; ``written``: folders that the training writes to.
    """
    os.chdir(os.path.expanduser("~"))
    root = expand(request["directory"])
    staging = os.path.join(root, OURS, "incoming")
    try:
        os.makedirs(staging, exist_ok=True)
        entries = tree(root, request["files"], OURS)["entries"]
        present = {entry["path"]: entry["sha256"] for entry in entries if "sha256" in entry}
        set_aside(root, out_of_place(root, entries, request["files"], present, request.get("written", ())))
        staged = {name: os.path.getsize(os.path.join(staging, name)) for name in os.listdir(staging)}
        say({"present": present, "staged": staged})
        for line in iter(sys.stdin.buffer.readline, b""):
            receive(root, staging, json.loads(line.decode()))
            say({"received": True})
    except (OSError, ValueError) as error:
        say({"problem": f"{type(error).__name__}: {error}"[:500]})


def receive(root: str, staging: str, header: Any) -> None:
    """One file: ``{path, bytes, sha256, offset, executable}`` and the bytes from ``offset`` on."""
    part = os.path.join(staging, header["sha256"])
    final = os.path.join(root, header["path"])
    with open(os.open(part, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
        file.truncate(header["offset"])
        file.seek(header["offset"])
        left = header["bytes"] - header["offset"]
        while left:
            data = sys.stdin.buffer.read(min(left, BLOCK))
            if not data:
                raise ValueError("the input ended early")
            file.write(data)
            left -= len(data)
            heard.touch()
        file.flush()
        os.fsync(file.fileno())
    if os.path.isdir(final):  # an empty one, or it would hold strays
        set_aside(root, [header["path"]])
    os.makedirs(os.path.dirname(final), exist_ok=True)
    found = sha256(part).get("sha256")
    try:
        if found == header["sha256"]:
            os.chmod(part, 0o755 if header["executable"] else 0o644)
            os.replace(part, final)
            return
        os.remove(part)
    except FileNotFoundError:
        found = None
    # The program of a connection that was cut may have had all of it too, and been faster.
    if sha256(final).get("sha256") != header["sha256"]:
        raise ValueError(f"{header['path']} arrived with the SHA-256 {found}")


def out_of_place(root: str, entries: Any, wanted: Any, present: Any, written: Any = ()) -> Any:
    """Paths below ``root`` that must go: strays, and with a package that differs the attempt that another one made.

    Its outputs are not to be mistaken for this package's, nor gone on from; the same package goes on from its own.
    ``written`` are the job's own folders of outputs.
    """
    launched = session.state(root)
    changed = any(present.get(path) != digest for path, digest in wanted.items())
    goes_on = launched["started"] and not changed
    odd = [entry["path"] for entry in entries if not _belongs(entry, wanted, goes_on, written)]
    if launched["alive"] and (changed or odd):
        raise ValueError(f"a training runs here (process {launched['pid']}), and not of exactly this package")
    if changed:
        odd += [OURS + "/" + name for name in SESSION if os.path.exists(os.path.join(root, OURS, name))]
    return odd


def _belongs(entry: Any, wanted: Any, goes_on: bool, written: Any) -> bool:
    if entry["path"] in wanted:
        return bool(entry["kind"] == "file")
    return is_written_there(entry["path"], written) and (goes_on or not is_output(entry["path"], written))


def set_aside(root: str, strays: Any) -> None:
    """Move paths into ``.harness/aside/<time>/``, and delete the directories left empty."""
    aside = os.path.join(root, OURS, "aside", str(time.time_ns()))
    for path in strays:
        target = os.path.join(aside, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.rename(os.path.join(root, path), target)
        folder = os.path.dirname(os.path.join(root, path))
        while folder != root and not os.listdir(folder):
            os.rmdir(folder)
            folder = os.path.dirname(folder)


def say(answer: Any) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
