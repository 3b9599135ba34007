"""The mirror on this machine: checkpoints that were brought home while the training ran, and what is left to train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.artifacts import checkpoint as checkpoints
from harness.artifacts import safetensors
from harness.facts import run_file
from harness.job.model import Job

ADAPTER: Final = ("adapter_config.json", checkpoints.ADAPTER, checkpoints.STATE)
"""The files of a checkpoint that the trained weights are in, and the step they are of."""

MIRROR: Final = "mirror"
"""The mirror's folder in the job's directory."""

RUN_FILE: Final = run_file.NAME
"""The run's account of itself. A package goes on only from checkpoints of the same run."""


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


def mirrored(directory: Path, trainers: Sequence[str]) -> tuple[Mirrored, ...]:
    """Every adapter below ``<directory>/<trainer>/checkpoint-<n>/``, by trainer and step."""
    found = []
    for trainer in trainers:
        for step, path in checkpoints.named(directory / trainer):
            weights = checkpoints.weights_of([one.name for one in path.iterdir() if one.is_file()])
            if weights is not None:
                file = path / weights
                whole = checkpoints.adapter_problem if weights == checkpoints.ADAPTER else _full_problem
                found.append(Mirrored(trainer, step, file.stat().st_size, whole(file)))
    return tuple(sorted(found, key=lambda one: (one.trainer, one.step)))


def _goes_on(job: Job, one: checkpoints.Checkpoint) -> bool:
    """True when the job's training can go on from a mirrored checkpoint. An unmodified trainer needs no run.json."""
    resumes = one.resumable if job.model.lora_r else one.complete and not one.unfit
    return resumes and (job.unmodified or (one.path / RUN_FILE).is_file())


def _full_problem(file: Path) -> str | None:
    """Problem of the weights of a whole model; of sharded ones, as their index tells it."""
    try:
        if file.name == safetensors.INDEX:
            return safetensors.index_problem(str(file.parent))
        return safetensors.problem(file) if file.suffix == ".safetensors" else None
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def resumable(directory: Path, job: Job) -> Resumable | None:
    """The newest checkpoints here that are complete; None when a training would have to begin anew.

    Those of a trainer are of use beside all of the one before it only, and the very last step of the last trainer is
    not gone on from: a training that has nothing left to do says nothing that could be judged at its launch.
    """
    steps: dict[str, int] = {}
    files: dict[str, Path] = {}
    for trainer, total in job.training.steps.items():
        whole = [one for one in checkpoints.find(directory / trainer) if _goes_on(job, one)]
        if trainer == job.trainers[-1]:
            whole = [one for one in whole if one.step < total]
        if not whole:
            break
        newest = whole[-1]
        steps[trainer] = newest.step
        for file in (path for path in newest.path.rglob("*") if path.is_file()):
            name = file.relative_to(newest.path).as_posix()
            place = f"{job.checkpoint_folder(trainer)}/checkpoint-{newest.step}/{name}"
            files[name if name == RUN_FILE else place] = file
        if newest.step < total:
            break
    return Resumable(steps, files) if steps else None
