"""What a create asks the service for, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WantedVolume:
    """The volume of an instance: a new one (``id`` is an offer's number, size in GB), or one that is there."""

    id: int
    mount_path: str
    create_new: bool = False
    size_gb: float = 15.0
    name: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An instance. Disk in GB; ``bid`` in USD per hour, None on demand."""

    image: str
    disk_gb: float
    label: str | None
    onstart: str
    env: Mapping[str, str]
    runtype: str
    bid: float | None
    cancel_unavail: bool
    volume: WantedVolume | None = None
