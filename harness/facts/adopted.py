"""An adopted run's own account of itself: its log and, where that was not kept from the beginning, its files. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.core.canonical import table
from harness.job.model import Job
from harness.log.summary import LogSummary

Announced = dict[str, dict[str, Any]]
"""Values by name, by where they are told."""


def planned(job: Job) -> Announced:
    """Everything that the run must have announced."""
    training, model, data = job.training, job.model, job.data
    return {
        **({data.proof.opening: data.rows} if data.proof is not None else {}),
        "plan": {**job.announced, "device_map": training.device_map, "world_size": 1},
        "run.json": {
            "steps": dict(training.steps),
            "rows": data.counts,
            "architecture": model.architecture,
            "hidden_size": model.hidden_size,
            "num_hidden_layers": model.num_hidden_layers,
            "vocab_size": model.vocab_size,
        },
    }


def announced(job: Job, log: LogSummary, run: Mapping[str, Any]) -> Announced:
    """The same values as the run has told them; one that is nowhere, or in another shape, equals nothing planned."""
    rows = {kind: table(file).get("rows") for kind, file in table(run.get("data")).items()}
    wanted = planned(job)["plan"]
    if log.plan is not None:
        plan = {name: getattr(log.plan, name) for name in wanted}
    else:
        steps, lora = table(run.get("steps")), table(run.get("lora"))
        plan = {**run, "steps": steps, "lora_r": lora.get("r"), "lora_alpha": lora.get("alpha")}
    told = {kind: count for kind, count in rows.items() if type(count) is int}
    counts = log.data.rows if log.data is not None else job.data.by_trainer(told) if told.keys() == rows.keys() else {}
    return {
        **({job.data.proof.opening: dict(counts)} if job.data.proof is not None else {}),
        "plan": {name: plan.get(name) for name in wanted},
        "run.json": {**table(table(run.get("model")).get("config")), "steps": run.get("steps"), "rows": rows},
    }


def steps_in(listed: Any) -> Any:
    """The steps that MANIFEST.json says were trained, when it lists a model file; None else."""
    manifest = table(listed)
    files = manifest.get("files")
    listed_kinds = {table(file).get("kind") for file in (files if isinstance(files, list) else ())}
    return manifest.get("steps") if "gguf" in listed_kinds else None
