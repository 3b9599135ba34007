"""What is about to be trained, in run.json and in the log, before the first step."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from . import disk, durable, manifest, refusals, runlog
from .config import Config
from .errors import Refused
from .rows import DataFile
from .training import Stage, compute_dtype

RUN_FILE = Path("run.json")

_PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "safetensors", "numpy")
_SHAPE = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "vocab_size",
    "tie_word_embeddings",
)
_DECIDES = ("model", "batch_size", "dtype", "lora", "steps", "max_length", "seed", "data", "settings")
"""Fields that two runs must share for one to go on from the other's checkpoints."""


def announce(config: Config, model: Any, *, base: Path, stages: tuple[Stage, Stage], data: dict[str, DataFile[Any]]) -> None:
    """Write run.json and print the plan.

    Raises Refused when checkpoints of another run lie here, when several GPUs are visible and the model
    was not mapped to them, or when the disk cannot hold what is to come.
    """
    mapping = getattr(model, "hf_device_map", None)
    refusals.refuse_unmapped(mapping, torch.cuda.device_count())
    resolved = _resolved(config, model, base=base, stages=stages, data=data)
    _refuse_another_run(resolved, stages)
    disk.refuse_full(resolved["disk_needed_bytes"], base=base, free=shutil.disk_usage(".").free)
    durable.write_json(RUN_FILE, resolved)
    runlog.plan(
        {
            "sft_steps": stages[0].total,
            "dpo_steps": stages[1].total,
            "batch_size": config.batch_size,
            "checkpoint_every": config.run.checkpoint_every,
            "lora_r": config.lora.r,
            "lora_alpha": config.lora.alpha,
            "dtype": resolved["dtype"],
            "world_size": 1,
            "device_map": "auto",
        },
        resolved["devices"],
    )


def _resolved(
    config: Config, model: Any, *, base: Path, stages: tuple[Stage, Stage], data: dict[str, DataFile[Any]]
) -> dict[str, Any]:
    described = model.config.to_dict()
    shape = {name: described[name] for name in _SHAPE}
    head = described.get("head_dim") or described["hidden_size"] // described["num_attention_heads"]
    settings = dataclasses.asdict(dataclasses.replace(config, export=type(config.export)()))
    return {
        "contract": manifest.CONTRACT,
        "model": {
            "name": config.model.name,
            "config": {"architecture": described["architectures"][0], **shape, "head_dim": head},
        },
        "batch_size": config.batch_size,
        "device_map": "auto",
        "devices": sorted({str(parameter.device) for parameter in model.parameters()}),
        "world_size": 1,
        "dtype": str(compute_dtype()).removeprefix("torch."),
        "lora": {
            "r": config.lora.r,
            "alpha": config.lora.alpha,
            "dropout": config.lora.dropout,
            "target_modules": list(config.lora.target_modules),
        },
        "steps": {stage.name: stage.total for stage in stages},
        "checkpoint_every": config.run.checkpoint_every,
        "max_length": config.model.max_length,
        "quantization": list(config.export.quantizations),
        "disk_needed_bytes": disk.needed(config, described, base, stages),
        "seed": config.run.seed,
        "data": {
            name: {"path": file.path.as_posix(), "rows": len(file.rows), "sha256": file.sha256}
            for name, file in data.items()
        },
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "settings": json.loads(json.dumps(settings)),
    }


def _refuse_another_run(resolved: dict[str, Any], stages: tuple[Stage, Stage]) -> None:
    """Checkpoints of other data or settings must not be gone on from: their steps mean something else."""
    if not any(stage.folder.is_dir() and any(stage.folder.iterdir()) for stage in stages):
        return
    try:
        before = json.loads(RUN_FILE.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(f"models/output holds checkpoints, and {RUN_FILE} cannot be read: {error}; move both away") from error
    if changed := [name for name in _DECIDES if before.get(name) != resolved[name]]:
        raise Refused(
            f"models/output holds a run with another {', '.join(changed)}; move models/output and {RUN_FILE} away, "
            "or restore what was changed"
        )
