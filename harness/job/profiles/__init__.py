"""Profiles: tables that a job file builds on, one TOML file each. What is one user's own stands here, not in code."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

FIRST: Final = "forex-r1-v3"
"""The first user's."""
ANY: Final = "any-training"
"""Any training of an operator's own."""

_ONCE_BUILT_IN = (("data", "proof_line"), ("gates", "prompt"))


def names() -> tuple[str, ...]:
    """The names of the built-in profiles."""
    files = (item.name for item in resources.files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml")))


def tables(name: str) -> dict[str, Any]:
    """A profile's tables, by its name."""
    return tomllib.loads((resources.files(__name__) / f"{name}.toml").read_text(encoding="utf-8"))


def floors() -> Mapping[str, int]:
    """Sizes, in bytes by quantization, that the first user's model file exceeds when it is whole."""
    sizes: Mapping[str, int] = tables(FIRST)["artifact"]["floors"]
    return sizes


def recorded_by(job: Mapping[str, Any]) -> Mapping[str, Any]:
    """A recorded job with what its version had built in and did not record: it was the first profile's."""
    for at, field in _ONCE_BUILT_IN:
        table = job.get(at)
        if isinstance(table, dict) and field not in table:
            job = {**job, at: {**table, field: tables(FIRST)[at][field]}}
    limits = job.get("limits")
    if isinstance(limits, dict) and "min_epochs" not in limits:  # nobody asked for epochs then
        job = {**job, "limits": {**limits, "min_epochs": 0.0}}
    return job
