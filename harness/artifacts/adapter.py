"""Proof that a LoRA adapter was trained: all matrices there, of the announced rank, finite, no ``lora_B`` still zero.

``lora_B`` starts as zeros; one that is zero after training never received a gradient.
An adapter file that lost its weights on the way is a few hundred kilobytes and parses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from harness.artifacts import safetensors, weights
from harness.artifacts.model_shape import read_config
from harness.core.errors import BadInput

_SLICE: Final = 16 << 20  # bytes looked at at a time, so that a large adapter needs no memory of its size


@dataclass(frozen=True, slots=True)
class AdapterFindings:
    """Contents of one adapter. ``problems`` is empty when it is whole and trained."""

    parameters: int
    rank: int
    matrices: int
    problems: tuple[str, ...]


def inspect(directory: Path) -> AdapterFindings:
    """Look into a directory with ``adapter_model.safetensors`` and ``adapter_config.json``.

    Raises BadInput when one of them is not there; a damaged one is a problem that is reported.
    """
    config = read_config(directory / "adapter_config.json")
    file = directory / "adapter_model.safetensors"
    rank = config.get("r")
    if type(rank) is not int or rank < 1:
        return _damaged(f"adapter_config.json states rank {str(rank)[:40]}")
    try:
        entries = safetensors.parse(file)
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror or error}") from error
    except safetensors.SafetensorsError as error:
        return _damaged(f"{file.name}: {error}", rank)
    norms = _norms(file, entries)
    untrained = [name for name, norm in norms.items() if "lora_B" in name and norm == 0]
    problems = [f"{name} is all zeros: it never received a gradient" for name in untrained]
    problems += [f"{name} is not finite" for name, norm in norms.items() if not np.isfinite(norm)]
    problems += _misshapen(entries, rank)
    return AdapterFindings(
        parameters=sum(math.prod(entry.shape) for entry in entries),
        rank=rank,
        matrices=sum("lora_" in entry.name for entry in entries),
        problems=tuple(problems),
    )


def _damaged(problem: str, rank: int = 0) -> AdapterFindings:
    return AdapterFindings(0, rank, 0, (problem,))


def _misshapen(entries: tuple[safetensors.TensorEntry, ...], rank: int) -> list[str]:
    """Pairs that are not a pair, and matrices whose inner dimension is not the rank."""
    shapes = {entry.name: entry.shape for entry in entries}
    if not any("lora_B" in name for name in shapes):
        return ["it holds no lora_B"]
    problems = []
    for name, shape in shapes.items():
        kind = "lora_A" if "lora_A" in name else "lora_B" if "lora_B" in name else None
        if kind is None:
            continue
        other = name.replace(kind, "lora_B" if kind == "lora_A" else "lora_A")
        if other not in shapes:
            problems.append(f"{name} has no partner {other}")
        if len(shape) != 2 or shape[0 if kind == "lora_A" else 1] != rank or 0 in shape:
            problems.append(f"{name} is {'x'.join(map(str, shape))}, the rank is {rank}")
    return problems


def _norms(file: Path, entries: tuple[safetensors.TensorEntry, ...]) -> dict[str, float]:
    data = weights.map_bytes(file)
    norms = {}
    for entry in entries:
        if entry.dtype not in weights.FLOATS:
            continue
        total = 0.0
        for start in range(entry.start, entry.end, _SLICE):
            part = weights.floats(data[start : min(start + _SLICE, entry.end)], entry.dtype)
            flat: Any = part.astype(np.float64, copy=False)
            total += float(np.dot(flat, flat))
        norms[entry.name] = total**0.5
    return norms
