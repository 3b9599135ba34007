"""Instances that a job's own folder tells of: the evidence of its provision gates outlives a lost or older ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.ids import InstanceId, JobName, is_label_of
from harness.core.lifecycle import Stage


@dataclass(frozen=True, slots=True)
class Remembered:
    """Instance that this job rented, by what its gate was shown then: its label, and the offer as agreed to (JSON)."""

    instance_id: InstanceId
    label: str
    offer: Mapping[str, Any]


def remembered(folder: Path, job: JobName) -> tuple[Remembered, ...]:
    """Every instance that the evidence in a job's folder tells of, the newest last; evidence that reads oddly, none."""
    found: dict[InstanceId, Remembered] = {}
    for path in sorted((folder / "evidence").glob(f"{Stage.PROVISION}-*.json")):
        one = _read(path, job)
        if one is not None:
            found[one.instance_id] = one
    return tuple(found.values())


def _read(path: Path, job: JobName) -> Remembered | None:
    try:
        facts = json.loads(path.read_bytes())["facts"]
        shown, offer = facts["instance"]["value"], facts["offer"]["value"]
        told = Remembered(InstanceId(shown["id"]), shown["label"], dict(offer))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    sound = type(shown["id"]) in {int, str} and isinstance(told.label, str) and "usd_per_hour" in told.offer
    return told if sound and is_label_of(told.label, job) else None
