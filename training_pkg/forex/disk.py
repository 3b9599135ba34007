"""Bytes of disk that a run will need, computed before it begins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import gguf_file, gguf_model
from .config import Config
from .errors import ExportDefect, Refused
from .training import Stage

_MARGIN = 1 << 30
"""Logs, tokenizers, caches, and the vocabulary in the GGUF's header."""


def needed(config: Config, model: Mapping[str, Any], base: Path, stages: tuple[Stage, Stage]) -> int:
    """Bytes of the base model, the checkpoints that are kept, the final adapter and every GGUF, with a margin."""
    adapter = lora_bytes(config, model)
    # A checkpoint holds the adapter and Adam's two moments, all float32; DPO's holds its reference adapter too.
    sft, dpo = (_kept(config, stage) for stage in stages)
    quantized = sum(gguf_bytes(model, quantization) for quantization in config.export.quantizations)
    return base_bytes(base) + (3 * sft + 4 * dpo + 2) * adapter + quantized + _MARGIN


def refuse_full(bytes_needed: int, *, base: Path, free: int) -> None:
    """Raise Refused when the run cannot fit; the base model and earlier output are already on the disk."""
    output = Path("models/output")
    present = base_bytes(base) + sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    if free < bytes_needed - present:
        raise Refused(
            f"the run needs {bytes_needed - present:,} more bytes of disk, {free:,} are free; use a larger disk"
        )


def lora_bytes(config: Config, model: Mapping[str, Any]) -> int:
    """Bytes of the adapter in float32: r x (rows + columns) for each module it changes."""
    parts = {name.rpartition(".")[2]: part for name, part in gguf_model.LAYER_NAMES.items()}
    if strangers := set(config.lora.target_modules) - parts.keys():
        raise ExportDefect(f"lora.target_modules: {min(strangers)} has no place in the GGUF")
    changed = {parts[name] for name in config.lora.target_modules}
    shapes = [shape for name, shape in gguf_model.expected(model).items() if name.split(".")[-2] in changed]
    return 4 * config.lora.r * sum(sum(shape) for shape in shapes if len(shape) == 2)


def gguf_bytes(model: Mapping[str, Any], quantization: str) -> int:
    """Bytes of a GGUF's data part, from the model's configuration."""
    return gguf_file.data_bytes(gguf_model.tensors(model, quantization))


def base_bytes(base: Path) -> int:
    """Bytes of the base model's weights."""
    return sum(path.stat().st_size for path in base.glob("*.safetensors"))


def _kept(config: Config, stage: Stage) -> int:
    return min(config.run.checkpoint_limit + 1, -(-stage.total // config.run.checkpoint_every))
