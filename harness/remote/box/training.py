"""Questions about what a training leaves behind: headers are parsed, nothing is unpickled."""

# os.path throughout, as strings are what crosses the wire.
# ruff: noqa: PTH110, PTH118
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
