"""Changes that time brings to the service: instances change, charges accrue, credit ends. Reads no clock."""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.emulator.rental import GPU_BILLED, RentedInstance, Status, Timing, next_change
from harness.emulator.state import State


@dataclass(frozen=True, slots=True)
class AgingRules:
    """How the service ages: instance timing, and how long an account without credit keeps its disks (seconds)."""

    timing: Timing
    grace_s: float


def age(state: State, now: float, rules: AgingRules) -> bool:
    """Bring everything up to ``now``, each change at its own time; True when more than money changed."""
    changed = False
    while (due := _next_due(state, now, rules.timing)) is not None:
        when, instance_id, status = due
        book(state, instance_id, when)
        changed = True
        if status is None:
            remove(state, instance_id)
        else:
            state.rentals[instance_id] = _entered(state.rentals[instance_id], status, when)
    for instance_id in state.rentals:
        book(state, instance_id, now)
    for volume_id in state.volumes:
        book_volume(state, volume_id, now)
    return _end_of_credit(state, now, rules.grace_s) or changed


def book(state: State, instance_id: int, until: float) -> None:
    """Charge an instance up to a time, at the rates of the state it is in."""
    rental = state.rentals[instance_id]
    start = rental.billed_until
    if until <= start:
        return
    state.charges.hours(instance_id, "disk", start, until, rental.ask.storage_per_hour(rental.disk_gb))
    if rental.status in GPU_BILLED:
        state.charges.hours(instance_id, "gpu", start, until, rental.price_per_hour)
    state.rentals[instance_id] = replace(rental, billed_until=until)


def book_volume(state: State, volume_id: int, until: float) -> None:
    """Charge a volume up to a time."""
    volume = state.volumes[volume_id]
    state.charges.hours(volume_id, "disk", volume.billed_until, until, volume.usd_per_hour, contract="volume")
    state.volumes[volume_id] = replace(volume, billed_until=max(until, volume.billed_until))


def remove(state: State, instance_id: int) -> None:
    """The instance and its disk are gone; its machine is offered again, under another number."""
    rental = state.rentals.pop(instance_id)
    state.asks.pop(rental.ask.id, None)
    again = replace(rental.ask, id=rental.ask.id + 100_000, rented=False)
    state.asks[again.id] = again


def _next_due(state: State, now: float, timing: Timing) -> tuple[float, int, Status | None] | None:
    due = [
        (change[0], rental.id, change[1])
        for rental in state.rentals.values()
        if (change := next_change(rental, timing)) is not None and change[0] <= now
    ]
    return min(due, key=lambda item: item[:2]) if due else None


def _entered(rental: RentedInstance, status: Status, when: float) -> RentedInstance:
    if status is Status.RUNNING:
        return replace(rental, status=status, running_since=when, boots=rental.boots + 1, status_msg="")
    if status is Status.STOPPED:
        return stopped(rental, "the contract has ended")
    return replace(rental, status=status)


def stopped(rental: RentedInstance, why: str) -> RentedInstance:
    """The instance, stopped: no process, the disk kept. A host that is offline does not hear of it, and stays so."""
    if rental.status is Status.OFFLINE:
        return replace(rental, intended=Status.STOPPED)
    return replace(rental, status=Status.STOPPED, intended=Status.STOPPED, running_since=None, status_msg=why)


def _end_of_credit(state: State, now: float, grace_s: float) -> bool:
    if state.credit() > 0:
        state.broke_at = None
        return False
    state.broke_at = state.broke_at if state.broke_at is not None else now
    if now >= state.broke_at + grace_s:
        gone = list(state.rentals)
        for instance_id in gone:
            remove(state, instance_id)
        return bool(gone)
    running = [rental for rental in state.rentals.values() if rental.intended is Status.RUNNING]
    for rental in running:
        state.rentals[rental.id] = stopped(rental, "the account has no credit")
    return bool(running)
