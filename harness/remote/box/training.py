"""Questions about what a training leaves behind: headers are parsed, nothing is unpickled."""

# The box may have Python 3.8: typing's old names; and os.path throughout, as strings are what crosses the wire.
# ruff: noqa: PTH110, PTH118, PTH119, PTH123, PTH202
from __future__ import annotations

import json
import os
import re
import struct
import zipfile
from collections.abc import Callable
from typing import Any

from harness.remote.box.files import expand, glob, read_text

HEADER_LIMIT = 100 << 20
"""The safetensors format's own limit of a header, bytes."""


def safetensors(path: str) -> Any:
    """``{tensors, bytes, dtypes}`` of a file whose header parses and whose data ends where the file does.

    Format: 8 bytes little-endian length, JSON header, data (https://github.com/huggingface/safetensors).
    """
    size = os.path.getsize(expand(path))
    with open(expand(path), "rb") as file:
        head = file.read(8)
        if len(head) < 8:
            raise ValueError(f"{size} bytes are too few for a safetensors file")
        (length,) = struct.unpack("<Q", head)
        if length > HEADER_LIMIT or 8 + length > size:
            raise ValueError(f"the header of {length} bytes does not fit into the file of {size}")
        header = json.loads(file.read(length).decode("utf-8"))
    header.pop("__metadata__", None)
    spans = sorted(tuple(tensor["data_offsets"]) for tensor in header.values())
    end = 0
    for start, stop in spans:
        if start != end or stop < start:
            raise ValueError(f"the tensors' bytes are not contiguous at offset {end}")
        end = stop
    if 8 + length + end != size:
        raise ValueError(f"the tensors end at byte {8 + length + end}, the file at {size}")
    dtypes = sorted({str(tensor["dtype"]) for tensor in header.values()})
    return {"tensors": len(header), "bytes": size, "dtypes": dtypes}


def archive(path: str) -> Any:
    """``{entries}`` of a file written by torch.save (a zip archive whose directory is at its end)."""
    with zipfile.ZipFile(expand(path)) as opened:
        return {"entries": len(opened.namelist())}


def checkpoints(path: str) -> Any:
    """The directories ``checkpoint-<n>`` of a directory, by step.

    Each: ``{path, step, mtime, files: {name: bytes}, global_step, parsed: {name: {"value"|"malformed"|"problem"}}}``;
    ``global_step``, of trainer_state.json, has the same form; ``parsed`` covers every file of a known format.
    """
    found = []
    for entry in glob(os.path.join(path, "checkpoint-*")):
        name = re.search(r"/checkpoint-(\d+)$", entry["path"])
        if name and entry["kind"] == "dir":
            found.append(
                {"path": entry["path"], "step": int(name.group(1)), "mtime": entry["mtime"], **_inside(entry["path"])}
            )
    return sorted(found, key=lambda checkpoint: checkpoint["step"])


def _inside(directory: str) -> Any:
    entries = {os.path.basename(entry["path"]): entry for entry in glob(os.path.join(directory, "*"))}
    parsed = {}
    for name, entry in entries.items():
        if name.endswith(".safetensors"):
            parsed[name] = attempt(safetensors, entry["path"])
        elif name.endswith((".pt", ".pth", ".bin")):
            parsed[name] = attempt(archive, entry["path"])
    files = {name: entry["bytes"] for name, entry in entries.items()}
    return {"files": files, "parsed": parsed, "global_step": attempt(_global_step, directory)}


def _global_step(directory: str) -> int:
    state = read_text(os.path.join(directory, "trainer_state.json"), 64 << 20)
    if not state["exists"]:
        raise ValueError("there is no trainer_state.json")
    step = json.loads(state["text"])["global_step"]
    if not isinstance(step, int):
        raise TypeError("global_step is not a number")
    return step


def attempt(look: Callable[..., Any], *args: Any) -> Any:
    """``{"value": ...}``, ``{"malformed": reason}`` of a file that is damaged, ``{"problem": reason}`` when unread."""
    try:
        return {"value": look(*args)}
    except OSError as error:
        return {"problem": f"{type(error).__name__}: {error}"[:300]}
    except (ValueError, TypeError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        return {"malformed": f"{type(error).__name__}: {error}"[:300]}


def gguf(path: str) -> Any:
    """``{exists: false}``, ``{exists, gguf: summary}`` or ``{exists, malformed: reason}`` of the strict GGUF parser."""
    from harness.artifacts import gguf as parser  # noqa: PLC0415 - sent along only when it is asked for

    if not os.path.exists(expand(path)):
        return {"exists": False}
    try:
        return {"exists": True, "gguf": parser.summary(parser.parse(expand(path)))}
    except parser.GgufError as error:
        return {"exists": True, "malformed": str(error)[:500]}
