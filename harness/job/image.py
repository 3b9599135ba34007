"""Versions that the name of a container image promises, against those that the training package needs. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_PYTHON_BEFORE: Final = (((2, 4), "3.10"),)
"""Newest Python in PyTorch's own images before a torch version (hub.docker.com/r/pytorch/pytorch)."""


def promised(image: str) -> dict[str, str]:
    """Versions by name (``python``, ``torch``, ``cuda``) that the image's name tells."""
    repository, _, tag = image.partition("@")[0].rpartition(":")
    name = repository.rpartition("/")[2]
    told = {}
    # NVIDIA's own images are numbered by year and month.
    if (
        name in {"pytorch", "python"}
        and not repository.startswith("nvcr.io/")
        and (own := re.match(r"v?(\d+\.\d+(?:\.\d+)?)", tag))
    ):
        told[{"pytorch": "torch"}.get(name, name)] = own[1]
    for library, pattern in (("cuda", r"(?:cuda|cu)-?(\d+\.\d+)"), ("python", r"py(?:thon)?-?(3\.\d+)")):
        if stated := re.search(pattern, tag):
            told.setdefault(library, stated[1])
    if repository == "pytorch/pytorch" and "torch" in told:
        newest = next((python for torch, python in _PYTHON_BEFORE if numbers(told["torch"]) < torch), None)
        told |= {"python": newest} if newest else {}
    return told


def too_old(image: str, needs: Mapping[str, str]) -> tuple[str, ...]:
    """Versions that the image promises and that are too old for the package, as ``torch 2.1.0, needed 2.6``."""
    told = promised(image)
    return tuple(
        f"{library} {told[library]}, needed {least}"
        for library, least in needs.items()
        if library in told and numbers(told[library]) < numbers(least)
    )


def numbers(version: str) -> tuple[int, ...]:
    """A version's numbers, to be compared."""
    return tuple(map(int, re.findall(r"\d+", version)))
