"""Complete checkpoints on the box: by their files and a parse, never by their directory's name. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from harness.artifacts.checkpoint import REQUIRED
from harness.core.answers import BoxCheckpoint

ADAPTER = "adapter_model.safetensors"
"""The file of a checkpoint that the whole training is in."""


def problems(checkpoint: BoxCheckpoint) -> tuple[str, ...]:
    """Reasons why training cannot go on from a checkpoint; empty when it is complete."""
    found = [f"{name} is missing" for name in REQUIRED if name not in checkpoint.files]
    found += [f"{name} is empty" for name, size in sorted(checkpoint.files.items()) if size == 0]
    for name, parse in sorted(checkpoint.parsed.items()):
        trouble = parse.malformed or parse.problem
        if trouble or parse.value is None:
            found.append(f"{name}: {trouble or 'nobody says that it parses'}")
    found += [
        f"{name}: nobody parsed it"
        for name in REQUIRED
        if name in checkpoint.files and name not in checkpoint.parsed and not name.endswith(".json")
    ]
    trouble = checkpoint.global_step.malformed or checkpoint.global_step.problem
    if trouble:
        found.append(f"trainer_state.json: {trouble}")
    elif checkpoint.global_step.value != checkpoint.step:
        found.append(f"trainer_state.json is of step {checkpoint.global_step.value}")
    return tuple(found)


def complete_steps(checkpoints: Iterable[BoxCheckpoint]) -> tuple[int, ...]:
    """The steps of the complete ones, ascending."""
    return tuple(sorted(one.step for one in checkpoints if not problems(one)))


def due_steps(last_step: int, every: int, total: int) -> tuple[int, ...]:
    """The steps at which a checkpoint must exist once ``last_step`` was reached: every so many, and the last."""
    due = list(range(every, last_step + 1, every))
    if last_step >= total and (not due or due[-1] != total):
        due.append(total)
    return tuple(due)
