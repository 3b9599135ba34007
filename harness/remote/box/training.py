"""Questions about what a training leaves behind: headers are parsed, nothing is unpickled."""

# os.path throughout, as strings are what crosses the wire.
# ruff: noqa: PTH110, PTH112, PTH118, PTH202, PTH208
from __future__ import annotations

import os
from typing import Any

from harness.remote.box.files import expand


def checkpoints(path: str, known: Any = ()) -> Any:
    """The directories ``checkpoint-<n>`` of a directory, by step, as ``harness.artifacts.checkpoint`` reads them.

    Those whose seal is ``known`` were read to their last byte before.
    """
    from harness.artifacts import checkpoint  # noqa: PLC0415 - sent along only when it is asked for

    found = checkpoint.find(expand(path), known)
    return [{**one._asdict(), "path": os.path.join(path, one.path.name)} for one in found]


def gguf(path: str) -> Any:
    """``{exists: false}``, ``{exists, gguf: summary}`` or ``{exists, malformed: reason}`` of the strict GGUF parser."""
    from harness.artifacts import gguf as parser  # noqa: PLC0415 - sent along only when it is asked for

    if not os.path.exists(expand(path)):
        return {"exists": False}
    try:
        return {"exists": True, "gguf": parser.summary(parser.parse(expand(path)))}
    except parser.GgufError as error:
        return {"exists": True, "malformed": str(error)[:500]}


def weights(path: str) -> Any:
    """``{exists: false}``, ``{exists, files, tensors}`` of a folder's safetensors, or ``{exists, malformed}``."""
    from harness.artifacts import safetensors as parser  # noqa: PLC0415 - as above

    folder = expand(path)
    if not os.path.isdir(folder):
        return {"exists": False}
    names = sorted(name for name in os.listdir(folder) if name.endswith(".safetensors"))
    try:
        wrong = parser.folder_problem(folder, names)
        entries = [] if wrong else [one for name in names for one in parser.parse(os.path.join(folder, name))]
    except (parser.SafetensorsError, FileNotFoundError) as error:
        wrong, entries = str(error), []
    if wrong:
        return {"exists": True, "malformed": wrong[:500]}
    return {
        "exists": True,
        "files": {name: os.path.getsize(os.path.join(folder, name)) for name in names},
        "tensors": {one.name: [one.dtype, one.shape] for one in entries},
    }
