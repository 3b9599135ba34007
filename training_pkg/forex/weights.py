"""A model's tensors on the disk, read a few rows at a time, with a LoRA adapter added on the way.

The merged model is never in memory: ``rows`` reads a slice of one base tensor and adds the same
slice of ``alpha / r * B @ A``, in float32.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open

from .errors import ExportDefect

_ADAPTER_PREFIX = "base_model.model."


class Weights:
    """The tensors of a model directory, and optionally the adapter to merge into them. Close after use."""

    def __init__(self, directory: Path, adapter: Path | None = None) -> None:
        self._slices: dict[str, Any] = {}
        for path in sorted(directory.glob("*.safetensors")):
            shard = _opened(path)
            self._slices |= {name: shard.get_slice(name) for name in shard.keys()}  # noqa: SIM118 - it is no dict
        if not self._slices:
            raise ExportDefect(f"{directory} holds no safetensors; a base model in another format cannot be exported")
        self._lora = {} if adapter is None else _lora(adapter)
        if strangers := self._lora.keys() - self._slices.keys():
            raise ExportDefect(f"the adapter has weights for {min(strangers)}, which the base model does not have")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._slices.clear()

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Every tensor's shape by its name in the base model."""
        return {name: tuple(part.get_shape()) for name, part in self._slices.items()}

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Rows ``start`` to ``stop`` of a merged tensor (elements, for a one-dimensional one), float32."""
        base: torch.Tensor = self._slices[name][start:stop].to(torch.float32)
        if name not in self._lora:
            return base
        down, up = self._lora[name]
        return torch.addmm(base, up[start:stop], down)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a model; raises ExportDefect when it cannot be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportDefect(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise ExportDefect(f"{path} is not an object")
    return value


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise ExportDefect(f"{path} is not a whole safetensors file: {error}") from error


def _lora(adapter: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The adapter's (A, scaled B) by the name of the base tensor they change."""
    settings = read_object(adapter / "adapter_config.json")
    rank, alpha = settings["r"], settings["lora_alpha"]
    scale = alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
    if settings.get("use_dora") or settings.get("rank_pattern") or settings.get("alpha_pattern"):
        raise ExportDefect("the adapter uses DoRA or per-module ranks, which are not merged here")
    file = _opened(adapter / "adapter_model.safetensors")
    tensors = {name: file.get_tensor(name).to(torch.float32) for name in file.keys()}  # noqa: SIM118 - it is no dict
    pairs = {}
    for module in {name.removesuffix(".lora_A.weight").removesuffix(".lora_B.weight") for name in tensors}:
        down, up = tensors.get(f"{module}.lora_A.weight"), tensors.get(f"{module}.lora_B.weight")
        if down is None or up is None:
            raise ExportDefect(f"the adapter has no whole LoRA pair of {module}")
        pairs[f"{module.removeprefix(_ADAPTER_PREFIX)}.weight"] = (down, up * scale)
    return pairs
