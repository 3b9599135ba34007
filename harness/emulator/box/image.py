"""The image that a box stands for: it is never pulled, and the box says so."""

from __future__ import annotations

import platform
import re
from importlib import metadata

_TORCH = re.compile(r"pytorch:v?(\d+(?:\.\d+)+)(?:.*?cuda-?(\d+(?:\.\d+)*))?")
"""Tags of pytorch/pytorch (2.1.0-cuda12.1-cudnn8-devel) and of vastai/pytorch (2.5.1-cuda-12.4.1)."""


def stands_for(image: str) -> str:
    """One line for the container log: the image, what its tag says that it holds, and what runs here instead."""
    found = _TORCH.search(image)
    brought = "its name does not say which versions it holds"
    if found:
        brought = f"it would have brought torch {found[1]}" + (f" for CUDA {found[2]}" if found[2] else "")
    try:
        torch = f"torch {metadata.version('torch')}"
    except metadata.PackageNotFoundError:
        torch = "no torch"
    here = f"this box has this machine's Python {platform.python_version()} and {torch}"
    return f"emulated: {image} is not pulled; {brought}; {here}"
