"""Admission of several ranks: a strategy that was stated, and proven on this machine. Needs no torch."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path

STATED = "TRAINING_STRATEGY"
"""Variable of the environment in which whoever starts the training states the strategy."""

PROOF = Path("models/proof.json")
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate")
"""Libraries whose versions a proof is of."""


def versions() -> dict[str, str]:
    """Versions of those that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def ranks_proven(environment: Mapping[str, str], base: str) -> int:
    """Ranks that may train this base here; 0 where nothing is stated, or what the proof tells is of something else."""
    if environment.get(STATED) != "ddp":
        return 0
    try:
        told = json.loads(PROOF.read_text(encoding="utf-8"))
        of_this = told["strategy"] == "ddp" and told["base"] == base and told["versions"] == versions()
        return int(told["ranks"]) if told["proven"] is True and of_this else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0
