"""Instances: create, look, change, destroy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from aiohttp import web

from harness.core.ports import Json
from harness.emulator import market
from harness.emulator.create_request import Wanted, WantedVolume
from harness.emulator.refusal import Refusal, invalid
from harness.emulator.rental import Rental
from harness.emulator.web.asking import (
    Answer,
    body_of,
    caller_of,
    id_of,
    next_token,
    owner_of,
    page_of,
    query_json,
    world_of,
)
from harness.emulator.web.rows import instance_row
from harness.emulator.world import World

COMPUTED = frozenset({"dph_total", "num_gpus"})
"""Columns that the listing computes: filtering by them is refused."""

PAGE = 25
MIN_DISK_GB = 8.0
MAX_LABEL = 256
MAX_ONSTART = 4096
FILTERS = ("actual_status", "gpu_name", "label", "machine_id", "is_bid", "verification")


async def create(request: web.Request) -> Answer:
    """PUT /asks/{id}/."""
    world = owner_of(request)
    wanted = read_wanted(await body_of(request))
    rental = world.create(id_of(request), wanted)
    return {"success": True, "new_contract": rental.id, "instance_api_key": rental.api_key}


async def show(request: web.Request) -> Answer:
    """GET /instances/{id}/: an id that is not there is 200 with null."""
    caller, world = caller_of(request), world_of(request)
    now = world.settle()
    for rental in world.visible():
        if rental.id == id_of(request) and caller.instance_id in {None, rental.id}:
            return {"instances": _row(world, rental, now)}
    return {"instances": None}


async def old_list(request: web.Request) -> Answer:
    """GET /api/v0/instances/: withdrawn by the service."""
    owner_of(request)
    raise Refusal(410, "deprecated_endpoint", "This endpoint is deprecated. Use /api/v1/instances/ instead.")


async def listing(request: web.Request) -> Answer:
    """GET /api/v1/instances/: filtered, ordered, in pages of at most 25."""
    world = owner_of(request)
    now = world.settle()
    rows = [_row(world, rental, now) for rental in world.visible()]
    filters = query_json(request, "select_filters", {})
    chosen = [row for row in rows if _chosen(row, filters)]
    for rule in reversed(_rules(query_json(request, "order_by", []))):
        chosen.sort(key=partial(_sortable, str(rule.get("col"))), reverse=rule.get("dir") == "desc")
    start, length = page_of(request, default=PAGE, most=PAGE)
    page = chosen[start : start + length]
    columns = query_json(request, "select_cols", ["*"])
    if isinstance(columns, list) and columns and "*" not in columns:
        page = [{key: row[key] for key in columns if key in row} for row in page]
    labels: dict[str, int] = {}
    for row in chosen:
        labels[str(row["label"] or "")] = labels.get(str(row["label"] or ""), 0) + 1
    return {
        "success": True,
        "instances_found": len(page),
        "total_instances": len(chosen),
        "label_counts": labels,
        "next_token": next_token(start, length, len(chosen)),
        "instances": page,
    }


async def filters(request: web.Request) -> Answer:
    """GET /instances/filters/: the values that occur."""
    world = owner_of(request)
    rows = [_row(world, rental, world.settle()) for rental in world.visible()]
    values = {name: sorted({str(row.get(name)) for row in rows}) for name in FILTERS}
    return {"success": True, "filters": [{"col": name, "values": found} for name, found in values.items()]}


async def change(request: web.Request) -> Answer:
    """PUT /instances/{id}/: start, stop or label."""
    caller, world, instance_id = caller_of(request), world_of(request), id_of(request)
    asked = await body_of(request)
    world.rental(instance_id, caller)
    return {"success": True, **_change(world, instance_id, asked)}


async def change_many(request: web.Request) -> Answer:
    """PUT /instances/ with ids: start or stop several."""
    world, asked = owner_of(request), await body_of(request)
    ids = _ids(asked.get("ids"))
    for instance_id in ids:
        world.rental(instance_id)
    for instance_id in ids:
        _change(world, instance_id, asked)
    return {"success": True}


async def destroy(request: web.Request) -> Answer:
    """DELETE /instances/{id}/."""
    caller, world, instance_id = caller_of(request), world_of(request), id_of(request)
    await body_of(request)
    world.rental(instance_id, caller)
    world.destroy(instance_id)
    return {"success": True, "msg": ""}


async def destroy_many(request: web.Request) -> Answer:
    """DELETE /instances/ with instance_ids: all of them, or none when one is not there."""
    world, asked = owner_of(request), await body_of(request)
    ids = _ids(asked.get("instance_ids"))
    for instance_id in ids:
        world.rental(instance_id)
    for instance_id in ids:
        world.destroy(instance_id)
    return {"success": True, "msg": ""}


async def reboot(request: web.Request) -> Answer:
    """PUT /instances/reboot/{id}/: the container restarts with a new port and host key; its data stays."""
    caller, world, instance_id = caller_of(request), world_of(request), id_of(request)
    world.rental(instance_id, caller)
    world.reboot(instance_id)
    return {"success": True}


async def recycle(request: web.Request) -> Answer:
    """PUT /instances/recycle/{id}/: the container is made anew; its data is lost."""
    caller, world, instance_id = caller_of(request), world_of(request), id_of(request)
    world.rental(instance_id, caller)
    world.reboot(instance_id, wipe=True)
    return {"success": True}


async def update_template(request: web.Request) -> Answer:
    """PUT /instances/update_template/{id}/: other image or onstart; the container's data is lost."""
    caller, world, instance_id = caller_of(request), world_of(request), id_of(request)
    asked = await body_of(request)
    rental = world.rental(instance_id, caller)
    onstart = _text(asked, "onstart", MAX_ONSTART) or rental.onstart
    world.reboot(instance_id, wipe=True, image=_text(asked, "image", 1024) or rental.image, onstart=onstart)
    return {"success": True, "updated_instance": _row(world, world.rental(instance_id), world.settle())}


async def bid_price(request: web.Request) -> Answer:
    """PUT /instances/bid_price/{id}/."""
    caller, world, instance_id = caller_of(request), world_of(request), id_of(request)
    asked = await body_of(request)
    world.rental(instance_id, caller)
    world.bid(instance_id, _price(asked.get("price")))
    return {"success": True}


def read_wanted(asked: Mapping[str, Any]) -> Wanted:
    """What a create asks for; refuses what the service refuses."""
    image = _text(asked, "image", 1024)
    if not image:
        raise invalid("image is required")
    disk = asked.get("disk", 10)
    if isinstance(disk, bool) or not isinstance(disk, int | float) or not math.isfinite(disk) or disk < MIN_DISK_GB:
        raise invalid(f"disk must be at least {MIN_DISK_GB:g} GB")
    env = asked.get("env") or {}
    if not isinstance(env, dict):
        raise invalid("env must be an object")
    label, onstart = asked.get("label"), _text(asked, "onstart", MAX_ONSTART)
    arguments = asked.get("args") or []
    if not isinstance(arguments, list) or sum(map(len, map(str, arguments))) + len(onstart) > MAX_ONSTART:
        raise invalid(f"args and onstart are longer than {MAX_ONSTART} characters")
    price = asked.get("price")
    return Wanted(
        image=image,
        disk_gb=float(disk),
        label=None if label is None else _text(asked, "label", MAX_LABEL),
        onstart=onstart,
        env={str(key): str(value) for key, value in env.items()},
        runtype=_text(asked, "runtype", 256) or "ssh",
        bid=None if price is None else _price(price),
        cancel_unavail=bool(asked.get("cancel_unavail")),
        volume=_volume(asked.get("volume_info")),
    )


def _volume(asked: Any) -> WantedVolume | None:
    if not asked:
        return None
    if not isinstance(asked, dict):
        raise invalid("volume_info must be an object")
    volume_id, size, place = asked.get("volume_id"), asked.get("size", 15), _text(asked, "mount_path", 1024)
    if type(volume_id) is not int or type(size) not in {int, float} or not 0 < size <= 1e6:
        raise invalid("volume_info needs volume_id, and a size in GB where it makes a new one")
    if not place.startswith("/") or not place.strip("/") or ".." in place.split("/"):
        raise invalid("volume_info needs mount_path, absolute and below /")
    return WantedVolume(volume_id, place, bool(asked.get("create_new")), float(size), _text(asked, "name", 256))


def _row(world: World, rental: Rental, now: float) -> dict[str, Json]:
    volume = world.state.volumes.get(rental.volume_id) if rental.volume_id is not None else None
    return instance_row(rental, now, used=world.disk_used.get(rental.id), volume=volume)


def _change(world: World, instance_id: int, asked: Mapping[str, Any]) -> Answer:
    if "label" in asked:
        world.label(instance_id, _text(asked, "label", MAX_LABEL))
    state = asked.get("state")
    if state == "running":
        world.start(instance_id)
    elif state == "stopped":
        world.stop(instance_id)
    elif state is not None or "label" not in asked:
        raise invalid("state must be 'running' or 'stopped'")
    return {}


def _chosen(row: Mapping[str, Any], filters: Any) -> bool:
    if not isinstance(filters, dict):
        raise Refusal(400, "invalid_request", "select_filters must be an object")
    for column, test in filters.items():
        if column in COMPUTED or column not in {*row, "ports"}:
            raise Refusal(400, "invalid_request", f"cannot filter by {column!r}")
        if not isinstance(test, dict):
            raise Refusal(400, "invalid_request", f"{column!r} needs an operator")
        if not all(market.compare(row.get(column), operator, value) for operator, value in test.items()):
            return False
    return True


def _rules(order: Any) -> list[Mapping[str, Any]]:
    if not isinstance(order, list) or not all(isinstance(rule, dict) for rule in order):
        raise Refusal(400, "invalid_request", "order_by must be a list of {col, dir}")
    return order


def _sortable(column: str, row: Mapping[str, Any]) -> tuple[bool, float, str]:
    value = row.get(column)
    number = float(value) if isinstance(value, int | float) else 0.0
    return value is not None, number, "" if isinstance(value, int | float) else str(value)


def _ids(value: Any) -> list[int]:
    if not isinstance(value, list) or not value or not all(type(item) is int for item in value):
        raise invalid("a list of instance ids is required")
    return value


def _price(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.001 <= value <= 128:
        raise Refusal(400, "invalid_price", "price must be between 0.001 and 128")
    return float(value)


def _text(asked: Mapping[str, Any], name: str, most: int) -> str:
    value = asked.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise invalid(f"{name} must be a string")
    if len(value) > most:
        raise invalid(f"{name} is longer than {most} characters")
    return value
