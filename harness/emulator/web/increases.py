"""Price increases that hosts offer beyond a contract's end, and the renter's answers."""

from __future__ import annotations

from harness.core.money import HOUR_S
from harness.emulator import increase
from harness.emulator.rental import PriceIncrease
from harness.emulator.request import Integer
from harness.emulator.web.exchange import Answer
from harness.emulator.world import World


async def pending(world: World) -> Answer:
    """GET /instances/pending-price-increases/."""
    rows = [_row(world, one) for one in increase.pending(world)]
    return {"success": True, "truncated": False, "pending_price_increases": rows}


async def accept(world: World, *, pending_price_increase_id: Integer) -> Answer:
    """PUT /instances/accept-price-increase/: the price and the end are the offered ones from now on."""
    return _answered(increase.answer(world, pending_price_increase_id, accept=True))


async def reject(world: World, *, pending_price_increase_id: Integer) -> Answer:
    """PUT /instances/reject-price-increase/: the contract ends when it ended."""
    return _answered(increase.answer(world, pending_price_increase_id, accept=False))


def _answered(asked: PriceIncrease) -> Answer:
    return {"success": True, "pending_price_increase_id": asked.id, "contract_id": asked.instance_id}


def _row(world: World, asked: PriceIncrease) -> Answer:
    rental = world.rental(asked.instance_id)
    disk = rental.ask.storage_per_hour(rental.disk_gb) / HOUR_S
    same = {"disk_ram_costpersec": disk, "bwu_cost": rental.ask.inet_up_cost, "bwd_cost": rental.ask.inet_down_cost}
    return {
        "pending_price_increase_id": asked.id,
        "contract_id": rental.id,
        "host_id": rental.ask.machine_id * 3,
        "new_gpu_costpersec": asked.price_per_hour / HOUR_S,
        "old_gpu_costpersec": rental.price_per_hour / HOUR_S,
        **{f"{age}_{name}": value for age in ("new", "old") for name, value in same.items()},
        "new_platform_fee": None,
        "old_platform_fee": None,
        "contract_end_date": rental.end_at,
        "ask_end_date": asked.end_at,
        "created_at": asked.created_at,
    }
