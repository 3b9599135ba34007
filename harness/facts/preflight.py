"""Preflight: what is true on this machine before a cent is spent."""

from __future__ import annotations

from dataclasses import dataclass

from harness.observed import Observed
from harness.ports import Account


@dataclass(frozen=True, slots=True)
class RowCounts:
    """Rows in the three data files."""

    features: int
    scenarios: int
    pairs: int


@dataclass(frozen=True, slots=True)
class Smoke:
    """The package's own smoke run on this machine: exit status, last lines, and the verdict on the GGUF it made."""

    status: int
    tail: str
    gguf_problem: str | None


@dataclass(frozen=True, slots=True)
class PreflightFacts:
    """What was looked at in the staged package, on this machine and at the provider."""

    missing_files: Observed[tuple[str, ...]]
    compile_errors: Observed[tuple[str, ...]]
    counts: Observed[RowCounts]
    unreadable_rows: Observed[tuple[str, ...]]
    unsound_rows: Observed[tuple[str, ...]]
    cut_share: Observed[float]
    script_batch_size: Observed[int]
    script_device_maps: Observed[tuple[str, ...]]
    launchers: Observed[tuple[str, ...]]
    option_pairs: Observed[tuple[str, ...]]
    smoke: Observed[Smoke]
    predicted_bytes: Observed[int]
    local_free_bytes: Observed[int]
    account: Observed[Account]
    public_key: Observed[str]
    orphans: Observed[tuple[str, ...]]
    destination_files: Observed[tuple[str, ...]]
