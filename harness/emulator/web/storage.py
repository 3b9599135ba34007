"""Volumes, which bill apart and survive a destroy; and the copy commands."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from harness.emulator.box.layout import layout_of
from harness.emulator.box.paths import resolve
from harness.emulator.freeport import HOST
from harness.emulator.refusal import invalid
from harness.emulator.request import Integer, Label, VolumeSize
from harness.emulator.state import RentedVolume
from harness.emulator.web.exchange import Answer
from harness.emulator.world import World


def _end(value: Any) -> Any:
    return None if value == "local" else str(value).removeprefix("C.")


End = Annotated[int | None, BeforeValidator(_end)]
"""One end of a copy: an instance (7, "7", "C.7"), or None for the caller's own machine ("local")."""


async def volumes(world: World) -> Answer:
    """GET /volumes/."""
    world.settle()
    return {"volumes": [_row(volume, world.state.users_of(volume.id)) for volume in world.state.volumes.values()]}


async def create_volume(
    world: World, *, ask_id: Annotated[Integer, Field(alias="id")], size: VolumeSize = 15.0, name: Label = ""
) -> Answer:
    """PUT /volumes/: id of an offer, size in GB."""
    volume = world.create_volume(ask_id, size, name)
    return {"success": True, "volume_name": volume.name or f"V.{volume.id}"}


async def delete_volume(world: World, *, volume_id: Annotated[int, Field(alias="id")]) -> None:
    """DELETE /volumes/?id=: the client sends the id in the query, the documentation says the body."""
    world.delete_volume(volume_id)


async def copy(
    world: World,
    *,
    source: Annotated[End, Field(alias="src_id")] = None,
    target: Annotated[End, Field(alias="dst_id")] = None,
    src_path: str = "",
    dst_path: str = "",
) -> Answer:
    """PUT /commands/copy_direct/ and /commands/rsync/: from one instance's disk to another's.

    With one side at the caller's it moves no byte: it tells where the caller's own rsync may connect.
    """
    if source is None and target is None:
        raise invalid("src_id or dst_id must be an instance")
    if target is None:
        return {"success": True, "src_addr": HOST, "src_port": world.rental(source or 0).ssh_port, "msg": ""}
    if source is None:
        return {"success": True, "dst_addr": HOST, "dst_port": world.rental(target).ssh_port, "msg": ""}
    here = _on_disk(world, source, src_path)
    there = _on_disk(world, target, dst_path)
    if not here.exists():
        raise invalid("src_path does not exist")
    await asyncio.to_thread(_copy, here, there)
    return {"success": True, "msg": ""}


def _copy(here: Path, there: Path) -> None:
    if here.is_dir():
        shutil.copytree(here, there, symlinks=True, dirs_exist_ok=True)
    else:
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(here, there, follow_symlinks=False)


def _on_disk(world: World, instance_id: int, path: str) -> Path:
    if not path.startswith("/"):
        raise invalid("src_path and dst_path must be absolute")
    world.rental(instance_id)
    layout = layout_of(world.state_dir, instance_id)
    return resolve(layout.root, path, mounts=layout.mounts())


def _row(volume: RentedVolume, users: list[int]) -> Answer:
    return {
        "id": volume.id,
        "machine_id": volume.machine_id,
        "host_id": volume.machine_id * 3,
        "label": volume.name,
        "disk_space": volume.size_gb,
        "storage_total_cost": volume.usd_per_hour,
        "disk_name": "SAMSUNG MZQL27T6",
        "driver_version": "570.124.06",
        "status": "created",
        "start_date": volume.created_at,
        "inet_up": 6800.0,
        "inet_down": 7500.0,
        "reliability2": 0.995,
        "verification": "verified",
        "geolocation": "Sweden, SE",
        "cluster_id": None,
        "instances": [{"id": user} for user in users],
    }
