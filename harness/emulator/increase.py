"""Price increases: a host offers to go on beyond a contract's end for another price; the renter accepts or rejects."""

from __future__ import annotations

from harness.emulator.market import DAY_S
from harness.emulator.refusal import Refusal
from harness.emulator.rental import PriceIncrease
from harness.emulator.world import World


def propose(world: World, instance_id: int, price: float, days: float) -> None:
    """Let the host of an instance offer so many days from now for so many USD per hour."""
    with world.changing():
        now = world.settle()
        asked = PriceIncrease(world.state.new_id(), instance_id, price, now + days * DAY_S, now)
        world.state.increases[asked.id] = asked


def pending(world: World) -> list[PriceIncrease]:
    """Offers that wait for an answer; one of an instance that is gone waits for none."""
    rentals = world.rentals()
    return [asked for asked in world.state.increases.values() if asked.instance_id in rentals]


def answer(world: World, increase_id: int, *, accept: bool) -> PriceIncrease:
    """Accept or reject one; refuses one that is not pending."""
    with world.changing():
        asked = next((one for one in pending(world) if one.id == increase_id), None)
        if asked is None:
            raise Refusal(404, "not_found", f"Pending price increase {increase_id} not found.")
        del world.state.increases[asked.id]
        if accept:
            world.extend(asked.instance_id, asked.price_per_hour, asked.end_at)
        return asked
