"""What is to be looked at on a box now and then: its files, for the scenario's conditions, and its disk."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.emulator.box import harm, quota
from harness.emulator.box.commands import used_bytes
from harness.emulator.box.container import Container
from harness.emulator.box.layout import Gpus, put_nvidia_smi
from harness.emulator.rental import Rental, Status
from harness.emulator.scenario import LifeEvent, When
from harness.emulator.world import World

TAIL = 64 << 10
"""Bytes of a file's end in which a condition's text is searched."""

MEASURE_S = 2.0
"""How often a disk is measured, in real seconds."""

GB = 1e9


@dataclass(slots=True)
class Watch:
    """Looks at one box. Bytes."""

    container: Container
    used: int = 0
    over: bool = False
    _measured_at: float = -MEASURE_S

    def look(self, world: World, rental: Rental) -> None:
        """Measure the disk when it is time, and let happen what the scenario has in store for this instance."""
        now = time.monotonic()  # the load on this machine is a matter of real time
        if now >= self._measured_at + MEASURE_S:
            self._measured_at = now
            self.used = used_bytes(self.container.layout.root)
            over = self.used > rental.disk_gb * GB
            if over or self.over:
                quota.hold(self.container.processes(), over=over)
            self.over = over
        event = world.faults.life(self.holds(world, rental.id))
        if event is not None:
            self._happen(world, rental, event)

    def room(self, rental: Rental) -> float:
        """Bytes left on the disk as last measured."""
        return rental.disk_gb * GB - self.used

    def wrote(self, count: int) -> None:
        """Bytes were written from outside since the last measure."""
        self.used += count

    def holds(self, world: World, instance_id: int) -> Callable[[When], bool]:
        """Whether a condition holds on this box now."""

        def holds(when: When) -> bool:
            rental = world.rentals().get(instance_id)
            if rental is None:
                return False
            if when.running_s and not _has_run(rental, when.running_s, world.clock.now()):
                return False
            paths = sorted(self.container.layout.root.glob(when.file))[:100] if when.file else []
            return not when.file or any(_says(path, when.text) for path in paths)

        return holds

    def _happen(self, world: World, rental: Rental, event: LifeEvent) -> None:
        layout = self.container.layout
        if event.do == "become":
            world.become(rental.id, event.status, event.status_msg)
        elif event.do == "stop":
            world.stop(rental.id, event.status_msg)
        elif event.do == "outbid":
            world.outbid(rental.id)
        elif event.do == "restart" and rental.status is Status.RUNNING:
            world.restart_container(rental.id)
        elif event.do == "reboot":
            world.reboot(rental.id)
        elif event.do == "credit":
            world.set_credit(event.usd)
        elif event.do == "disk":
            harm.fill_disk(self.container, event.path, event.bytes)
        elif event.do == "damage":
            harm.damage(layout.root, event)
        elif event.do == "wrong_gpu":
            shown = Gpus(event.gpu_name, event.num_gpus, rental.ask.gpu_ram_mb, rental.ask.driver_version)
            put_nvidia_smi(layout, shown)


def _has_run(rental: Rental, seconds: float, now: float) -> bool:
    return rental.running_since is not None and now >= rental.running_since + seconds


def _says(path: Path, text: str) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            return re.search(text, file.read().decode("utf-8", "replace")) is not None
    except OSError:
        return False
