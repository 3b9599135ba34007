"""The emulator's memory on disk: one JSON file, replaced as a whole.

A crash point between two writes leaves the older file; a new file appears only
by a rename. Nothing here survives a power loss on purpose: it is a rehearsal.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.emulator.ledger import Entry
from harness.emulator.market import Ask
from harness.emulator.rental import AttachedKey, Rental
from harness.errors import BadInput
from harness.ports import InstanceStatus

VERSION = 1
_NAME = "emulator.json"


def rental_to_json(rental: Rental) -> dict[str, Any]:
    """A rental as JSON."""
    return asdict(rental)


def rental_from_json(data: Mapping[str, Any]) -> Rental:
    """The rental that was written."""
    return Rental(
        **{
            **data,
            "ask": Ask(**data["ask"]),
            "status": InstanceStatus(data["status"]),
            "intended": InstanceStatus(data["intended"]),
            "held_at": InstanceStatus(data["held_at"]) if data["held_at"] else None,
            "keys": tuple(AttachedKey(**key) for key in data["keys"]),
        }
    )


def entry_from_json(data: Mapping[str, Any]) -> Entry:
    """The ledger entry that was written."""
    return Entry(**data)


def read(state_dir: Path) -> dict[str, Any] | None:
    """What was saved, or None in a new directory. Raises BadInput when it cannot be used."""
    path = state_dir / _NAME
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}", remedy="Choose another --state directory.") from None
    if not isinstance(data, dict) or data.get("version") != VERSION:
        raise BadInput(f"{path} was written by another version", remedy="Choose another --state directory.")
    return data


def write(state_dir: Path, data: Mapping[str, Any]) -> None:
    """Replace what was saved; readable by its owner only, for it holds the API keys."""
    path = state_dir / _NAME
    partial = path.with_suffix(".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"version": VERSION, **data}, file)
    partial.replace(path)
