"""The mirror on this machine: checkpoints that were brought home while the training ran, and what is left to train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.artifacts import checkpoint as checkpoints

ADAPTER: Final = ("adapter_config.json", checkpoints.ADAPTER, checkpoints.STATE)
"""The files of a checkpoint that the trained weights are in, and the step they are of."""

MIRROR: Final = "mirror"
"""The mirror's folder in the job's directory."""

RUN_FILE: Final = "run.json"
"""The run's account of itself. A package goes on only from checkpoints of the same run."""

_TRAINERS = ("sft", "dpo")


@dataclass(frozen=True, slots=True)
class Mirrored:
    """One mirrored adapter; ``problem`` says why it could not be used, None when it could."""

    trainer: str
    step: int
    bytes: int
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Resumable:
    """Start of a training that goes on elsewhere: the last step of each trainer, and the files by their place there.

    ``files``: path relative to the package's directory -> the file here.
    """

    steps: Mapping[str, int]
    files: Mapping[str, Path]


def mirrored(directory: Path) -> tuple[Mirrored, ...]:
    """Every adapter below ``<directory>/<trainer>/checkpoint-<n>/``, by trainer and step."""
    found = []
    for trainer in _TRAINERS:
        for step, path in checkpoints.named(directory / trainer):
            adapter = path / checkpoints.ADAPTER
            if adapter.is_file():
                problem = checkpoints.adapter_problem(adapter)
                found.append(Mirrored(trainer, step, adapter.stat().st_size, problem))
    return tuple(sorted(found, key=lambda one: (one.trainer, one.step)))


def resumable(directory: Path, total: Mapping[str, int]) -> Resumable | None:
    """The newest checkpoints here that are complete; None when a training would have to begin anew.

    ``total`` are the last steps of the trainers. Those of DPO are of use beside a finished SFT only, and its very last
    is not gone on from: a training that has nothing left to do says nothing that could be judged at its launch.
    """
    steps: dict[str, int] = {}
    files: dict[str, Path] = {}
    for trainer in _TRAINERS:
        whole = [
            one for one in checkpoints.find(directory / trainer) if one.resumable and (one.path / RUN_FILE).is_file()
        ]
        if trainer == _TRAINERS[-1]:
            whole = [one for one in whole if one.step < total[trainer]]
        if not whole:
            break
        newest = whole[-1]
        steps[trainer] = newest.step
        for file in (path for path in newest.path.rglob("*") if path.is_file()):
            name = file.relative_to(newest.path).as_posix()
            place = f"models/output/{trainer}/checkpoint-{newest.step}/{name}"
            files[name if name == RUN_FILE else place] = file
        if newest.step < total[trainer]:
            break
    return Resumable(steps, files) if steps else None
