"""Files that are written beside the package on the box once it is there. Pure; imported on both sides."""

from __future__ import annotations

from collections.abc import Sequence

OURS = ".harness"
"""The harness's own corner of the directory: staging, what was set aside, and the state of the training's session."""

SESSION = ("launch.json", "launch.sh", "exit_status", "job.json")
"""Files in ``OURS`` that speak of one launch."""


def is_output(path: str, written: Sequence[str] = ()) -> bool:
    """True for a relative path that a training writes (docs/contract.md), or that lies in a folder ``written``."""
    if path in ("training.log", "run.json", "MANIFEST.json"):
        return True
    return any(f"{path}/".startswith(f"{folder}/") for folder in ("models/output", *written))


def is_written_there(path: str, written: Sequence[str] = ()) -> bool:
    """True for what is no part of a package: an output, a downloaded model, a cache of Python's, the harness's own."""
    folders = path.split("/")[:-1]
    return is_output(path, written) or "__pycache__" in folders or folders[:1] in (["models"], [OURS])
