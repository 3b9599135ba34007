"""An adopted run's own account of itself: its log and, where that was not kept from the beginning, its files. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from harness.artifacts import model_shape
from harness.artifacts.manifest import OutputManifest
from harness.core.canonical import table
from harness.job.data import DataFile
from harness.job.model import Job
from harness.job.told import JobAccount, account
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


def by_run(run: Mapping[str, Any], like: Mapping[str, DataFile]) -> JobAccount:
    """The account that ``run.json`` gives of a job; ``like`` are its files by a better account, with trainers."""
    model, lora, steps = (table(run.get(name)) for name in ("model", "lora", "steps"))
    files = {kind: table(file) for kind, file in table(run.get("data")).items()}
    paths = {kind: str(file.get("path", "")) for kind, file in files.items()}
    only = next(iter(steps)) if len(steps) == 1 else None
    whose = {kind: (like[kind].trainer, like[kind].rows_are) if kind in like else (only, "examples") for kind in files}
    folders = {posixpath.dirname(path) or "." for path in paths.values()}
    exported = run.get("quantization")
    told: dict[str, dict[str, Any]] = {
        "data": {
            "directory": folders.pop() if len(folders) == 1 else None,
            "files": {
                kind: {
                    "file": posixpath.basename(paths[kind]),
                    "rows": file.get("rows"),
                    "trainer": whose[kind][0],
                    "rows_are": whose[kind][1],
                }
                for kind, file in files.items()
            },
        },
        "training": {name: run.get(name) for name in ("steps", "batch_size", "device_map", "checkpoint_every")},
        "model": {
            "base": model.get("name"),
            **{
                name: table(model.get("config")).get(name)
                for name in ("architecture", *model_shape.SIZES, "tie_word_embeddings")
            },
            "lora_r": lora.get("r"),
            "lora_alpha": lora.get("alpha"),
            "dtype": run.get("dtype"),
        },
        "artifact": {"quantization": exported[0] if isinstance(exported, list) and len(exported) == 1 else None},
    }
    said = {
        name: {field: one for field, one in fields.items() if one not in (None, {})} for name, fields in told.items()
    }
    return account(said, "run.json")


def by_manifest(listed: OutputManifest) -> JobAccount:
    """The account that ``MANIFEST.json`` gives of a job: its steps, and the model that came of it."""
    kinds = {"gguf": "gguf", "model": "merged", "adapter": "adapter"}
    kind, found = next(((mine, listed.of_kind(kind)) for kind, mine in kinds.items() if listed.of_kind(kind)), ("", ()))
    artifact = {"kind": kind, "remote_dir": posixpath.dirname(found[0].path) or "."} if found else {}
    return account({"training": {"steps": dict(listed.steps)}, "artifact": artifact}, "MANIFEST.json")
