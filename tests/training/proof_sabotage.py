"""Trainers for the proof that are wrong in one way each; a rank makes them by the name in the proof's settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from forex import proving

SECOND = "1"


def frozen_lora_b(settings: dict[str, Any], folder: Path, resume: Path | None) -> Any:
    """One lora_B of one layer is frozen, as a wrong list of modules leaves it."""
    trainer = proving.build(settings, folder, resume)
    name, frozen = next((name, one) for name, one in trainer.model.named_parameters() if "lora_B" in name)
    assert name
    frozen.requires_grad_(requires_grad=False)
    return trainer


def other_data(settings: dict[str, Any], folder: Path, resume: Path | None) -> Any:
    """The second rank reads other rows, as from a file that was not ready."""
    trainer = proving.build(settings, folder, resume)
    if os.environ.get("RANK") == SECOND:
        turned = [list(reversed(row)) for row in trainer.train_dataset["input_ids"]]
        rows = [[(3 * token) % 50 + 2 for token in row] for row in turned]
        trainer.train_dataset = type(trainer.train_dataset).from_dict({"input_ids": rows, "labels": rows})
    return trainer


def not_wrapped(settings: dict[str, Any], folder: Path, resume: Path | None) -> Any:
    """Nothing is wrapped: each rank trains a model of its own."""
    trainer = proving.build(settings, folder, resume)
    trainer.accelerator.prepare_model = lambda model, *_, **__: model
    trainer.accelerator.prepare = lambda *given, **_: given if len(given) > 1 else given[0]
    return trainer


def drifting_resume(settings: dict[str, Any], folder: Path, resume: Path | None) -> Any:
    """The checkpoint has lost its optimizer, which nothing says."""
    if resume is not None:
        (resume / "optimizer.pt").unlink(missing_ok=True)
    return proving.build(settings, folder, resume)
