"""The mirror on this machine: adapters of checkpoints that were brought home while the training ran."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from harness.artifacts import safetensors

_ADAPTER = "adapter_model.safetensors"
_FOLDER = re.compile(r"checkpoint-(\d{1,9})")


@dataclass(frozen=True, slots=True)
class Mirrored:
    """One mirrored adapter; ``problem`` says why it could not be used, None when it could."""

    trainer: str
    step: int
    bytes: int
    problem: str | None = None


def mirrored(directory: Path) -> tuple[Mirrored, ...]:
    """Every adapter below ``<directory>/<trainer>/checkpoint-<n>/``, by trainer and step."""
    found = []
    for trainer in ("sft", "dpo"):
        folder = directory / trainer
        for path in folder.iterdir() if folder.is_dir() else ():
            name = _FOLDER.fullmatch(path.name)
            adapter = path / _ADAPTER
            if name and adapter.is_file():
                found.append(Mirrored(trainer, int(name[1]), adapter.stat().st_size, _problem(adapter)))
    return tuple(sorted(found, key=lambda one: (one.trainer, one.step)))


def _problem(adapter: Path) -> str | None:
    try:
        safetensors.parse(adapter)
    except (OSError, ValueError) as error:
        return str(error)
    return None
