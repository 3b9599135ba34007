"""Instances: create, look, change, destroy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field, Json, JsonValue

from harness.core.ports import Json as JsonData
from harness.emulator import market
from harness.emulator.refusal import Refusal, invalid, no_such_instance
from harness.emulator.rental import RentedInstance
from harness.emulator.request import InstanceRequest, Integer, Label, Price, Request
from harness.emulator.web.exchange import FIRST_PAGE, Answer, Token, caller_of, page_of, world_of
from harness.emulator.web.rows import instance_row
from harness.emulator.web.templates import template_of
from harness.emulator.world import World

COMPUTED = frozenset({"dph_total", "num_gpus"})
"""Columns that the listing computes: filtering by them is refused."""

PAGE = 25
FILTERS = ("actual_status", "gpu_name", "label", "machine_id", "is_bid", "verification")
Ids = Annotated[list[Integer], Field(min_length=1)]
State = Literal["running", "stopped"]
SWITCHES = {"running": World.start, "stopped": World.stop}


class TemplateChoice(Request):
    """Template that a create names, if it names one."""

    template_hash_id: Label | None = None
    template_id: Integer | None = None


class OrderRule(Request):
    """One rule of an ordering."""

    col: str = ""
    dir: str = "asc"


async def create(world: World, body: Answer, *, ask_id: Annotated[int, Field(alias="id")]) -> Answer:
    """PUT /asks/{id}/."""
    return _created(world, ask_id, body)


async def launch(world: World, body: Answer, *, q: dict[str, JsonValue]) -> Answer:
    """PUT /launch_instance/: create on the first offer that a search finds."""
    with world.lock:
        found = world.search({"rentable": {"eq": True}, **q, "limit": 1})
        if not found:
            raise Refusal(404, "no_such_ask", "No offer fits the query.")
        return _created(world, int(str(found[0]["id"])), body)


async def show(request: web.Request, *, instance_id: Annotated[int, Field(alias="id")]) -> Answer:
    """GET /instances/{id}/: an id that is not there, or not the caller's, is 200 with null."""
    caller, world = caller_of(request), world_of(request)
    now = world.settle()
    shown = (one for one in world.visible() if one.id == instance_id and caller.may_touch(one.id))
    return {"instances": next((_row(world, rental, now) for rental in shown), None)}


async def deposit(world: World, rental: RentedInstance) -> Answer:
    """GET /instances/balance/{id}/: nothing is kept back."""
    del world, rental
    return {"success": True, "refundable_deposit": 0.0, "total_discount": 0.0, "discount_months": 0}


async def backups(world: World) -> Answer:
    """GET /instance_backups/: the service takes them before a machine is decommissioned, which none is here."""
    del world
    return {"success": True, "backups": []}


async def old_list(world: World) -> Answer:
    """GET /api/v0/instances/: withdrawn by the service."""
    del world
    raise Refusal(410, "deprecated_endpoint", "This endpoint is deprecated. Use /api/v1/instances/ instead.")


async def listing(
    world: World,
    *,
    select_filters: Json[dict[str, dict[str, JsonValue]]] | None = None,
    order_by: Json[tuple[OrderRule, ...]] = (),
    select_cols: Json[tuple[str, ...]] = ("*",),
    limit: int = PAGE,
    after_token: Token = FIRST_PAGE,
) -> Answer:
    """GET /api/v1/instances/: filtered, ordered, in pages of at most 25."""
    now = world.settle()
    rows = [_row(world, rental, now) for rental in world.visible()]
    chosen = [row for row in rows if _chosen(row, select_filters or {})]
    for rule in reversed(order_by):
        chosen.sort(key=partial(market.sortable, rule.col), reverse=rule.dir == "desc")
    page, token = page_of(chosen, limit, after_token, most=PAGE)
    if select_cols and "*" not in select_cols:
        page = [{key: row[key] for key in select_cols if key in row} for row in page]
    return {
        "success": True,
        "instances_found": len(page),
        "total_instances": len(chosen),
        "label_counts": Counter(str(row["label"] or "") for row in chosen),
        "next_token": token,
        "instances": page,
    }


async def filters(world: World) -> Answer:
    """GET /instances/filters/: the values that occur."""
    rows = [_row(world, rental, world.settle()) for rental in world.visible()]
    values = {name: sorted({str(row.get(name)) for row in rows}) for name in FILTERS}
    return {"success": True, "filters": [{"col": name, "values": found} for name, found in values.items()]}


async def change(
    world: World, rental: RentedInstance, *, label: Label | None = None, state: State | None = None
) -> None:
    """PUT /instances/{id}/: start, stop or label."""
    if label is None and state is None:
        raise invalid("state must be 'running' or 'stopped'")
    if label is not None:
        world.label(rental.id, label)
    if state is not None:
        SWITCHES[state](world, rental.id)


async def change_many(world: World, *, ids: Ids, state: State) -> None:
    """PUT /instances/ with ids: start or stop several."""
    for instance_id in ids:
        world.rental(instance_id)
    for instance_id in ids:
        SWITCHES[state](world, instance_id)


async def destroy(world: World, rental: RentedInstance) -> Answer:
    """DELETE /instances/{id}/."""
    world.destroy(rental.id)
    return {"success": True, "msg": ""}


async def destroy_many(world: World, *, instance_ids: Ids) -> Answer:
    """DELETE /instances/ with instance_ids: those that are there; the answer names the others."""
    wanted, missing = list(dict.fromkeys(instance_ids)), []
    for instance_id in wanted:
        try:
            world.destroy(instance_id)
        except Refusal:
            missing.append(instance_id)
    if missing == wanted:
        raise no_such_instance(*missing)
    return {
        "success": not missing,
        "msg": f"Instances not found: {missing}; the others are destroyed." if missing else "",
    }


async def reboot(world: World, rental: RentedInstance) -> None:
    """PUT /instances/reboot/{id}/: the container restarts with a new port and host key; its data stays."""
    world.reboot(rental.id)


async def recycle(world: World, rental: RentedInstance) -> None:
    """PUT /instances/recycle/{id}/: the container is made anew; its data is lost."""
    world.reboot(rental.id, wipe=True)


async def bid_price(world: World, rental: RentedInstance, *, price: Price) -> None:
    """PUT /instances/bid_price/{id}/."""
    world.bid(rental.id, price)


def _created(world: World, ask_id: int, body: Answer) -> Answer:
    said = TemplateChoice.read(body)
    if said.template_hash_id is not None or said.template_id is not None:
        body = template_of(world, said.template_hash_id or "", said.template_id or 0).under(body)
    rental = world.create(ask_id, InstanceRequest.read(body))
    return {"success": True, "new_contract": rental.id, "instance_api_key": rental.api_key}


def _row(world: World, rental: RentedInstance, now: float) -> dict[str, JsonData]:
    volume = world.state.volumes.get(rental.volume_id) if rental.volume_id is not None else None
    return instance_row(rental, now, used=world.disk_used.get(rental.id), volume=volume)


def _chosen(row: Mapping[str, JsonData], filters: Mapping[str, JsonData]) -> bool:
    for column, test in filters.items():
        if column in COMPUTED or column not in {*row, "ports"}:
            raise Refusal(400, "invalid_request", f"cannot filter by {column!r}")
        if not market.fits(row, column, test):
            return False
    return True
