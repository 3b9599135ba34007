"""Watch over one box: how full its disk is, and the events that the scenario has in store for it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from harness.emulator.box import damage, quota
from harness.emulator.box.commands import used_bytes
from harness.emulator.box.container import Container
from harness.emulator.box.layout import put_nvidia_smi
from harness.emulator.conditions import holds
from harness.emulator.rental import RentedInstance
from harness.emulator.scenario import LifeEvent
from harness.emulator.world import World

BOX_EVENTS = frozenset({"disk", "damage", "wrong_gpu"})
"""Events inside a box; they wait until its container is up."""

SERVICE_EVENTS = frozenset({"become", "stop", "outbid", "restart", "reboot", "credit"})

MEASURE_S = 2.0
"""How often a disk is measured, in real seconds."""

GB = 1e9


@dataclass(slots=True)
class Watch:
    """Watch over one box. Sizes in bytes."""

    container: Container
    used: int = 0
    over: bool = False
    _measured_at: float = -MEASURE_S

    def disk(self, rental: RentedInstance) -> None:
        """Measure the disk when it is time, and hold the box to its quota."""
        now = time.monotonic()  # the load on this machine is a matter of real time
        if now >= self._measured_at + MEASURE_S:
            self._measured_at = now
            self.used = used_bytes(self.container.layout.root)
            over = self.used > rental.disk_gb * GB
            if over or self.over:
                quota.hold(self.container.processes(), over=over)
            self.over = over

    def room(self, rental: RentedInstance) -> float:
        """Bytes left on the disk as last measured."""
        return rental.disk_gb * GB - self.used

    def wrote(self, count: int) -> None:
        """Bytes were written from outside since the last measure."""
        self.used += count

    def events(self, world: World, rental: RentedInstance, *, booted: bool) -> None:
        """Let happen what the scenario has in store for this instance; in the box only once it has booted."""
        kinds = SERVICE_EVENTS | BOX_EVENTS if booted else SERVICE_EVENTS
        event = world.faults.life(kinds, lambda when: holds(world, rental.id, when))
        if event is None:
            return
        if event.do in BOX_EVENTS:
            self._in_the_box(rental, event)
        else:
            _in_the_service(world, rental, event)

    def _in_the_box(self, rental: RentedInstance, event: LifeEvent) -> None:
        if event.do == "disk":
            damage.fill_disk(self.container, event.path, event.bytes)
        elif event.do == "damage":
            damage.damage(self.container.layout.root, event)
        elif event.do == "wrong_gpu":
            shown = replace(rental.ask, gpu_name=event.gpu_name, num_gpus=event.num_gpus)
            put_nvidia_smi(self.container.layout, shown)


def _in_the_service(world: World, rental: RentedInstance, event: LifeEvent) -> None:
    if event.do == "become":
        world.become(rental.id, event.status, event.status_msg)
    elif event.do == "stop":
        world.stop(rental.id, event.status_msg)
    elif event.do == "outbid":
        world.outbid(rental.id)
    elif event.do == "restart":
        world.restart_container(rental.id)
    elif event.do == "reboot":
        world.reboot(rental.id)
    elif event.do == "credit":
        world.set_credit(event.usd)
