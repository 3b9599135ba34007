"""Events that the scenario has in store for an instance, in the service and in its box."""

from __future__ import annotations

from dataclasses import replace

from harness.emulator.box import damage
from harness.emulator.box.container import Container
from harness.emulator.box.layout import put_nvidia_smi
from harness.emulator.conditions import holds
from harness.emulator.increase import propose
from harness.emulator.market import DAY_S
from harness.emulator.rental import RentedInstance
from harness.emulator.scenario import LifeEvent
from harness.emulator.world import World

SERVICE_EVENTS = frozenset({"become", "stop", "outbid", "restart", "reboot", "credit", "price", "end"})

BOX_EVENTS = frozenset({"disk", "damage", "wrong_gpu"})
"""Events inside a box; they wait until its container is up."""


def happen(world: World, rental: RentedInstance, container: Container, *, booted: bool) -> None:
    """Let the next event happen whose time has come; in the box only once it has booted."""
    kinds = SERVICE_EVENTS | BOX_EVENTS if booted else SERVICE_EVENTS
    event = world.faults.life(kinds, lambda when: holds(world, rental.id, when))
    if event is None:
        return
    if event.do in SERVICE_EVENTS:
        _in_service(world, rental.id, event)
    else:
        _in_box(container, rental, event)


def _in_service(world: World, instance_id: int, event: LifeEvent) -> None:
    match event.do:
        case "become":
            world.become(instance_id, event.status, event.status_msg)
        case "stop":
            world.stop(instance_id, event.status_msg)
        case "outbid":
            world.stop(instance_id, "outbid: a higher bid took the machine")
        case "restart":
            world.restart_container(instance_id)
        case "reboot":
            world.reboot(instance_id)
        case "credit":
            world.set_credit(event.usd)
        case "price":
            propose(world, instance_id, event.usd, event.days)
        case "end":
            price = world.rental(instance_id).price_per_hour
            world.extend(instance_id, price, world.settle() + event.days * DAY_S)


def _in_box(container: Container, rental: RentedInstance, event: LifeEvent) -> None:
    match event.do:
        case "disk":
            damage.fill_disk(container, event.path, event.bytes)
        case "damage":
            damage.damage(container.layout.root, event)
        case "wrong_gpu":
            shown = replace(rental.ask, gpu_name=event.gpu_name, num_gpus=event.num_gpus)
            put_nvidia_smi(container.layout, shown)
