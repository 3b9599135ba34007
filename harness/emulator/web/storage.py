"""Volumes, which bill apart and survive a destroy; and the copy commands."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

from aiohttp import web

from harness.emulator.box.layout import layout_of
from harness.emulator.box.paths import resolve
from harness.emulator.refusal import invalid
from harness.emulator.state import Volume
from harness.emulator.web.asking import Answer, body_of, owner_of
from harness.emulator.web.rows import HOST
from harness.emulator.world import World


async def volumes(request: web.Request) -> Answer:
    """GET /volumes/."""
    world = owner_of(request)
    world.settle()
    return {"volumes": [_row(volume, world.state.users_of(volume.id)) for volume in world.state.volumes.values()]}


async def create_volume(request: web.Request) -> Answer:
    """PUT /volumes/: id of an offer, size in GB."""
    world, asked = owner_of(request), await body_of(request)
    ask_id, size = asked.get("id"), asked.get("size", 15)
    if type(ask_id) is not int or type(size) not in {int, float} or not 0 < size <= 1e6:
        raise invalid("id and size are required")
    volume = world.create_volume(ask_id, float(size), str(asked.get("name") or "")[:256])
    return {"success": True, "volume_name": volume.name or f"V.{volume.id}"}


async def delete_volume(request: web.Request) -> Answer:
    """DELETE /volumes/?id=: the client sends the id in the query, the documentation says the body."""
    world, asked = owner_of(request), await body_of(request)
    given = request.query.get("id", asked.get("id"))
    if not str(given).isdecimal():
        raise invalid("id is required")
    world.delete_volume(int(str(given)))
    return {"success": True}


async def copy(request: web.Request) -> Answer:
    """PUT /commands/copy_direct/ and /commands/rsync/: from one instance's disk to another's.

    With one side at the caller's it moves no byte: it tells where the caller's own rsync may connect.
    """
    world, asked = owner_of(request), await body_of(request)
    source, target = _instance(asked.get("src_id")), _instance(asked.get("dst_id"))
    if source is None and target is None:
        raise invalid("src_id or dst_id must be an instance")
    if target is None:
        return {"success": True, "src_addr": HOST, "src_port": world.rental(source or 0).ssh_port, "msg": ""}
    if source is None:
        return {"success": True, "dst_addr": HOST, "dst_port": world.rental(target).ssh_port, "msg": ""}
    here = _on_disk(world, source, asked.get("src_path"))
    there = _on_disk(world, target, asked.get("dst_path"))
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


def _on_disk(world: World, instance_id: int, path: Any) -> Path:
    if not isinstance(path, str) or not path.startswith("/"):
        raise invalid("src_path and dst_path must be absolute")
    world.rental(instance_id)
    layout = layout_of(world.state_dir, instance_id)
    return resolve(layout.root, path, mounts=layout.mounts())


def _instance(value: Any) -> int | None:
    if value is None or value == "local":
        return None
    text = str(value).removeprefix("C.")
    if not text.isdecimal():
        raise invalid(f"not an instance: {value!r}")
    return int(text)


def _row(volume: Volume, users: list[int]) -> Answer:
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
