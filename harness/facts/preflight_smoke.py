"""The package's own smoke run on this machine: the real code on a tiny model, in a copy that is thrown away."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import process
from harness.artifacts import gguf
from harness.errors import MissingExtra
from harness.job.model import Job
from harness.observed import CouldNotLook

_RUN_FILE = "run.json"
_MAX_RUN_BYTES = 1 << 20
_LARGE = 256 << 20
"""Bytes; larger files are weights of the real model, which the smoke run does without."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """What the package resolved its configuration to, from the ``run.json`` of the smoke run."""

    batch_size: int
    device_map: str
    world_size: int
    checkpoint_every: int


@dataclass(frozen=True, slots=True)
class Smoke:
    """How it ended: exit status, last lines, the model file it made (bytes), and what is wrong with that file."""

    status: int
    tail: str
    seconds_limit: float
    timed_out: bool
    gguf: str | None
    gguf_bytes: int
    gguf_problem: str | None
    resolved: Resolved | None


def run(job: Job, package: Path, scratch: Path) -> Smoke:
    """Run ``gates.smoke_command`` in a copy of the package; raises CouldNotLook or BadInput when it cannot be run."""
    if not job.gates.smoke_run:
        raise CouldNotLook("the job's plan does without a smoke run (gates.smoke_run = false)")
    if not job.gates.smoke_command:
        raise CouldNotLook("gates.smoke_command is empty: the job does not say how to try the package")
    if not package.is_dir():
        raise CouldNotLook("the package is not staged yet: harness run stages it")
    shutil.copytree(package, scratch, ignore=_large)
    timeout = job.gates.smoke_timeout_s
    done = process.run(job.gates.smoke_command, cwd=scratch, timeout=timeout)
    absent = re.search(r"ModuleNotFoundError: No module named '([\w.]+)'", done.tail)
    if done.status != 0 and absent and not (scratch / absent.group(1).split(".")[0]).exists():
        raise MissingExtra(f"the smoke run (it imports {absent.group(1)})", "training")
    made, size, problem = _model_file(job, scratch)
    return Smoke(
        status=done.status,
        tail=done.tail[-2000:],
        seconds_limit=timeout,
        timed_out=done.timed_out,
        gguf=made,
        gguf_bytes=size,
        gguf_problem=problem,
        resolved=_resolved(scratch / _RUN_FILE),
    )


def _model_file(job: Job, scratch: Path) -> tuple[str | None, int, str | None]:
    folder = scratch / job.artifact.remote_dir
    made = sorted(folder.glob("*.gguf"))
    if len(made) != 1:
        return None, 0, f"{job.artifact.remote_dir} holds {len(made)} model files, expected exactly one"
    try:
        header = gguf.parse(made[0])
    except (gguf.GgufError, OSError) as error:
        return made[0].name, 0, f"{made[0].name}: {error}"
    if not header.tensors:
        return made[0].name, 0, f"{made[0].name} holds no tensors"
    return made[0].name, made[0].stat().st_size, None


def _resolved(path: Path) -> Resolved | None:
    """The resolved configuration; None when the run wrote none that can be read."""
    try:
        if path.stat().st_size > _MAX_RUN_BYTES:
            return None
        body: Any = json.loads(path.read_bytes())
        return Resolved(
            batch_size=int(body["batch_size"]),
            device_map=str(body["device_map"])[:100],
            world_size=int(body["world_size"]),
            checkpoint_every=int(body["checkpoint_every"]),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _large(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if os.path.getsize(os.path.join(folder, name)) > _LARGE]  # noqa: PTH118, PTH202 - copytree speaks in strings
