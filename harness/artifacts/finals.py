"""Files on the box that are the artifact, picked by their names, or the reason why none can be. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harness.artifacts import parts, safetensors, shards
from harness.artifacts.checkpoint import ADAPTER
from harness.core.answers import Entry
from harness.core.errors import BadInput
from harness.core.text import printable

UNFINISHED: Final = (".partial", ".incomplete", ".tmp", ".part")
"""Ends of the names of files that are still being written."""

NEEDED: Final = {"merged": ("config.json",), "adapter": ("adapter_config.json", ADAPTER)}
"""Files that a folder of each kind has."""


def pick(kind: str, folder: str, found: Sequence[Entry]) -> tuple[str, ...]:
    """Paths of the artifact's files, relative to their folder. Raises BadInput naming what is wrong with them."""
    names = tuple(sorted(posixpath.relpath(entry.path, folder) for entry in found))
    if kind == "gguf":
        return _of_gguf(names)
    odd = [f"{printable(entry.path, 200)} is a {entry.kind}" for entry in found if entry.kind != "file"]
    if odd:
        raise BadInput(f"{odd[0]}, and not a file")
    missing = [name for name in NEEDED[kind] if name not in names]
    if kind == "merged" and not any(name.endswith(".safetensors") for name in names):
        missing.append(safetensors.SINGLE)
    if missing:
        raise BadInput(f"{folder} lacks {', '.join(missing)}: it holds {_told(names) or 'nothing'}")
    if (problem := parts.names_problem(names)) is not None:
        raise BadInput(printable(f"{folder}: {problem}", 400))
    return names


def belongs(path: str) -> bool:
    """True for a file of a model's folder; hidden ones and checkpoints that lie there are not of the model."""
    first, *_ = steps = path.split("/")
    return not first.startswith("checkpoint-") and not any(step.startswith(".") for step in steps)


def unfinished(path: str) -> bool:
    """True for a name that a file has while it is written."""
    return path.endswith(UNFINISHED)


def _of_gguf(names: tuple[str, ...]) -> tuple[str, ...]:
    """One file, or every file of one split. Names are told, for a person must know which to take away."""
    if not names:
        raise BadInput("0 files match *.gguf")
    wanted = [one.as_posix() for one in shards.siblings(Path(names[0]))]
    missing, others = sorted(set(wanted) - set(names)), sorted(set(names) - set(wanted))
    if missing:
        raise BadInput(f"{names[0]} is one of {len(wanted)} files: {_told(missing)} not there")
    if others:
        whole = f"{_told(others)} beside {names[0]}" if len(wanted) == 1 else f"{_told(others)} is not of its split"
        raise BadInput(f"{len(names)} files match *.gguf: {whole}")
    return names


def _told(names: Sequence[str]) -> str:
    return printable(shards.named(names), 300)
