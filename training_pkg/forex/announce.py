"""The run announced in run.json and in the log, before the first step."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from . import durable, manifest, ranks, refusals, runlog
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


def identity(
    config: Config, stages: tuple[Stage, Stage], rows: tuple[int, int], data: Mapping[str, DataFile[Any]]
) -> dict[str, Any]:
    """The fields of run.json that two runs must share for one to go on from the other's checkpoints.

    ``rows`` are those that each of the stages has.
    """
    settings = dataclasses.asdict(config)
    del settings["export"], settings["run"]["trackers"]  # they do not change what is trained
    return {
        "batch_size": config.batch_size,
        "dtype": str(compute_dtype()).removeprefix("torch."),
        "steps": {stage.name: stage.total for stage in stages},
        "rows": {stage.name: count for stage, count in zip(stages, rows, strict=True)},
        "rows_a_step": {stage.name: config.rows_a_step(stage.name) for stage in stages},
        "data": {
            name: {"path": file.path.as_posix(), "rows": len(file.rows), "built": file.built, "sha256": file.sha256}
            for name, file in data.items()
        },
        "settings": json.loads(json.dumps(settings)),
    }


def refuse_another(own: Mapping[str, Any], stages: tuple[Stage, Stage]) -> None:
    """Raise Refused when checkpoints of a run with another identity lie here: their steps mean something else."""
    if not any(stage.folder.is_dir() and any(stage.folder.iterdir()) for stage in stages):
        return
    remedy = f"move models/output and {RUN_FILE} away, or restore what was changed"
    try:
        before = json.loads(RUN_FILE.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(f"models/output holds checkpoints, but {RUN_FILE} is unreadable ({error}); {remedy}") from error
    before.get("settings", {}).pop("export", None)
    if changed := [name for name, value in own.items() if before.get(name) != value]:
        raise Refused(f"models/output holds a run with another {', '.join(changed)}; {remedy}")


def announce(config: Config, own: Mapping[str, Any], model: Any, *, disk_needed: int) -> None:
    """Write run.json and print the plan.

    Raises Refused when several GPUs are visible and the model was not mapped to them.
    """
    refusals.refuse_unmapped(getattr(model, "hf_device_map", None), torch.cuda.device_count())
    run = {
        "contract": manifest.CONTRACT,
        "model": {"name": config.model.name, "config": _shape(model.config.to_dict())},
        **own,
        "device_map": "auto",
        "devices": sorted({device for told in ranks.gathered(_devices(model)) for device in told}),
        "world_size": ranks.world(),
        "lora": dataclasses.asdict(config.lora),
        "checkpoint_every": config.run.checkpoint_every,
        "max_length": config.model.max_length,
        **_exported(config, own, disk_needed),
        "seed": config.run.seed,
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }
    if ranks.first():
        durable.write_json(RUN_FILE, run)
    _say_plan(run)


def _devices(model: Any) -> list[str]:
    """Devices that hold weights of this process; a rank calls the one GPU that it sees by its own number."""
    devices = {parameter.device for parameter in model.parameters()}
    several = ranks.world() > 1
    return [f"cuda:{ranks.rank()}" if several and one.type == "cuda" else str(one) for one in devices]


def announce_again() -> None:
    """Print the plan of a training that is finished, as its run.json states it: each start's log stands alone."""
    _say_plan(json.loads(RUN_FILE.read_text(encoding="utf-8")))


def _say_plan(run: Mapping[str, Any]) -> None:
    runlog.say(
        runlog.PLAN,
        sft_steps=run["steps"]["sft"],
        dpo_steps=run["steps"]["dpo"],
        batch_size=run["batch_size"],
        checkpoint_every=run["checkpoint_every"],
        lora_r=run["lora"]["r"],
        lora_alpha=run["lora"]["alpha"],
        dtype=run["dtype"],
        world_size=run["world_size"],
        devices=",".join(run["devices"]),
    )
    for stage, steps in run["steps"].items():
        rows, rows_a_step, settings = run["rows"][stage], run["rows_a_step"][stage], run["settings"][stage]
        runlog.say(
            runlog.EPOCHS,
            stage=stage,
            epochs=steps * rows_a_step / rows,
            rows=rows,
            rows_a_step=rows_a_step,
            accumulation=settings["accumulation"],
            seen=steps * rows_a_step,
            cap=settings["max_steps"],
            needed=-(-rows // rows_a_step),
        )


def announce_export(config: Config, own: Mapping[str, Any], *, disk_needed: int) -> None:
    """Put the export's settings into the run.json of a training that is finished, where they have changed since."""
    before, exported = json.loads(RUN_FILE.read_text(encoding="utf-8")), _exported(config, own, disk_needed)
    if before["settings"] != exported["settings"]:
        durable.write_json(RUN_FILE, before | exported)


def _exported(config: Config, own: Mapping[str, Any], disk_needed: int) -> dict[str, Any]:
    """The fields that the export's settings decide."""
    quantizations = list(config.export.quantizations)
    return {
        "settings": own["settings"] | {"export": {"name": config.export.name, "quantizations": quantizations}},
        "quantization": quantizations,
        "disk_needed_bytes": disk_needed,
    }


def _shape(described: Mapping[str, Any]) -> dict[str, Any]:
    """The base model's shape as the contract names it."""
    head = described.get("head_dim") or described["hidden_size"] // described["num_attention_heads"]
    return {
        "architecture": described["architectures"][0],
        **{name: described[name] for name in _SHAPE},
        "head_dim": head,
    }
