"""Files that are written beside the package on the box once it is there. Pure; imported on both sides."""

from __future__ import annotations

OURS = ".harness"
"""The harness's own corner of the directory: staging, what was set aside, and the state of the training's session."""

SESSION = ("launch.json", "launch.sh", "exit_status")
"""Files in ``OURS`` that speak of one launch."""


def is_output(path: str) -> bool:
    """True for a relative path that a training writes (docs/contract.md)."""
    return path in ("training.log", "run.json", "MANIFEST.json") or f"{path}/".startswith("models/output/")


def is_written_there(path: str) -> bool:
    """True for what is no part of a package: an output, a downloaded model, a cache of Python's, the harness's own."""
    folders = path.split("/")[:-1]
    return is_output(path) or "__pycache__" in folders or folders[:1] in (["models"], [OURS])
