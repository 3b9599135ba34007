"""Reconciler: makes the boxes on this machine be what the world says they are, again and again.

What was done for a box is written beside it, so that a new emulator goes on where
one was killed: same directories, ports and host keys, processes still running.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import shutil
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import asyncssh

from harness.core import durable
from harness.core.errors import BadInput
from harness.core.money import GB
from harness.emulator.box.container import BoxFailed, Container, can_isolate
from harness.emulator.box.disk import BoxDisk
from harness.emulator.box.image import stands_for
from harness.emulator.box.layout import Layout, furnish, layout_of
from harness.emulator.box.server import BoxServer, Traffic
from harness.emulator.conditions import holds
from harness.emulator.events import happen
from harness.emulator.refusal import Refusal
from harness.emulator.rental import RentedInstance, Status
from harness.emulator.scenario import SshFault
from harness.emulator.world import World

TICK_S = 0.1
"""How often the boxes are looked after, in real seconds."""


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Done:
    """Last start and last wipe that were carried out on a box."""

    boots: int = 0
    wipes: int = 0


@dataclass(slots=True)
class _Box:
    """One box that this process looks after."""

    layout: Layout
    container: Container
    disk: BoxDisk
    done: _Done
    server: BoxServer | None = None
    identity: int = -1
    waits_for_port: bool = False
    keys_written_at: float = -1.0
    keys_written: tuple[str, ...] = ()

    def serves(self, rental: RentedInstance) -> bool:
        """True when SSH answers with the rental's host key."""
        return self.server is not None and self.identity == rental.identity


class Reconciler:
    """Reconciles all boxes with the world; runs inside the emulator's event loop."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._folder = world.state_dir / "boxes"
        self._volumes = world.state_dir / "volumes"
        self._isolated = world.scenario.isolation == "auto" and can_isolate()
        if not self._isolated and any(event.do == "disk" for event in world.scenario.life):
            raise BadInput(
                f"scenario {world.scenario.name!r} fills a disk, which can be rehearsed only in isolated boxes",
                remedy="Run it on Linux where users may make user namespaces (unshare --user --mount --pid).",
            )
        self._boxes: dict[int, _Box] = {}
        self._stopping = threading.Event()

    async def run(self, *, keep_boxes: bool) -> None:
        """Look after the boxes until stopped; their processes outlive it only with ``keep_boxes``."""
        try:
            while not self._stopping.is_set():
                await self._look()
                await asyncio.sleep(TICK_S)
        finally:
            await self._close(kill=not keep_boxes)

    def stop(self) -> None:
        """End ``run`` after the look that is under way, from any thread."""
        self._stopping.set()

    async def _look(self) -> None:
        """Bring every box once to where it should be."""
        rentals = self._world.rentals()
        await asyncio.gather(*(self._look_at(rental) for rental in rentals.values()))
        await self._clear_away()

    async def _clear_away(self) -> None:
        """Remove the boxes of instances that are gone, their processes and disks with them."""
        rentals = self._world.rentals()
        for folder in self._folder.glob("*"):
            if folder.name.isdecimal() and int(folder.name) not in rentals:
                await self._remove(int(folder.name))
        for folder in self._forsaken():
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _forsaken(self) -> list[Path]:
        """The directories of volumes that were deleted."""
        return [folder for folder in self._volumes.glob("*") if int(folder.name) not in self._world.state.volumes]

    async def _look_at(self, rental: RentedInstance) -> None:
        try:
            await self._tend(self._box(rental), rental)
        except Refusal:
            return  # it was destroyed meanwhile; the next look clears it away
        except (BoxFailed, OSError, asyncssh.Error) as error:
            _log.exception("box %s", rental.id)
            self._world.become(rental.id, Status.EXITED, f"OCI runtime create failed: {error}")

    async def _close(self, *, kill: bool) -> None:
        """Close the listeners, and clear away what was destroyed; ``kill`` also ends the processes of the rest."""
        await self._clear_away()
        for box in self._boxes.values():
            if box.server is not None:
                await box.server.close()
            if kill:
                await asyncio.to_thread(box.container.kill)

    def settled(self) -> bool:
        """True when every box is as the world says."""
        with self._world.lock:
            rentals, now = self._world.rentals(), self._world.settle()
        for instance_id, rental in rentals.items():
            box = self._boxes.get(instance_id)
            if box is None or not self._is_right(box, rental, now):
                return False
        return set(self._boxes) == set(rentals) and not self._forsaken()

    def _is_right(self, box: _Box, rental: RentedInstance, now: float) -> bool:
        if rental.status is not Status.RUNNING:
            return box.server is None and not box.container.alive()
        return (
            box.done.boots == rental.boots
            and box.container.alive()
            and (not self._opens(rental, now) or box.serves(rental))
            and box.keys_written == _due_keys(rental, now, self._world.timing.key_s)
        )

    def _opens(self, rental: RentedInstance, now: float) -> bool:
        """True once SSH is to answer."""
        return rental.running_since is not None and now >= rental.running_since + self._world.timing.ssh_s

    def _box(self, rental: RentedInstance) -> _Box:
        if rental.id not in self._boxes:
            layout = layout_of(self._world.state_dir, rental.id)
            layout.base.mkdir(parents=True, exist_ok=True)
            container = Container(layout, self._isolated)
            disk = BoxDisk(container, rental.disk_gb * GB)
            self._boxes[rental.id] = _Box(layout, container, disk, _read_done(layout.base))
        return self._boxes[rental.id]

    async def _tend(self, box: _Box, rental: RentedInstance) -> None:
        booted = rental.status is Status.RUNNING and box.done.boots == rental.boots
        if self._world.faults.awaits_life():
            await asyncio.to_thread(happen, self._world, rental, box.container, booted=booted)
        rental, now = self._world.rental(rental.id), self._world.settle()
        if box.done.wipes != rental.wipes:
            await self._down(box)
            await asyncio.to_thread(shutil.rmtree, box.layout.root, ignore_errors=True)
            self._did(box, replace(box.done, wipes=rental.wipes))
        if rental.status is not Status.RUNNING:
            await self._down(box)
            return
        if box.done.boots != rental.boots:
            await self._boot(box, rental)
        elif not box.container.alive():
            _log.warning("box %s: its container is gone; it is started again", rental.id)
            self._world.restart_container(rental.id)
            return
        self._write_keys(box, rental, now)
        if self._opens(rental, now):
            await self._open(box, rental)
        self._account(box, rental)
        if box.disk.due():
            await asyncio.to_thread(box.disk.measure)
        self._world.disk_used[rental.id] = box.disk.used

    async def _boot(self, box: _Box, rental: RentedInstance) -> None:
        await self._down(box)
        layout = box.layout
        await asyncio.to_thread(furnish, layout, rental.ask, box.container.environment()["PATH"])
        if rental.volume_id is not None:
            layout.mount(self._volumes / str(rental.volume_id), rental.mount_path, isolated=self._isolated)
        self._write_keys(box, rental, self._world.clock.now(), force=True)
        _announce(layout, rental)
        own = {"CONTAINER_ID": str(rental.id), "CONTAINER_API_KEY": rental.api_key}
        env = {**own, **self._world.state.secrets, **rental.env}
        await asyncio.to_thread(box.container.start, rental.onstart, env)
        self._did(box, replace(box.done, boots=rental.boots))

    async def _open(self, box: _Box, rental: RentedInstance) -> None:
        if box.serves(rental):
            return
        if box.server is not None:
            await box.server.close()

        def fault(kinds: frozenset[str], route: str, sent: int) -> SshFault | None:
            return self._world.faults.ssh(kinds, route, sent, lambda when: holds(self._world, rental.id, when))

        server = BoxServer(box.container, box.disk, fault)
        ports = {"direct": rental.ssh_port, "proxy": rental.proxy_port}
        try:
            await server.listen(box.layout.host_key(rental.identity), ports)
        except OSError as error:
            await server.close()
            if error.errno != errno.EADDRINUSE:
                raise
            if not box.waits_for_port:
                _log.warning("box %s waits for a port that another program holds: %s", rental.id, error)
            box.waits_for_port = True
            return
        box.server, box.identity, box.waits_for_port = server, rental.identity, False

    async def _down(self, box: _Box) -> None:
        if box.server is not None:
            server, box.server = box.server, None
            await server.close()
        if box.container.alive():
            await asyncio.to_thread(box.container.kill)

    async def _remove(self, instance_id: int) -> None:
        if instance_id in self._boxes:
            await self._down(self._boxes[instance_id])
        layout = layout_of(self._world.state_dir, instance_id)
        await asyncio.to_thread(Container(layout, self._isolated).kill)
        await asyncio.to_thread(shutil.rmtree, layout.base, ignore_errors=True)
        self._boxes.pop(instance_id, None)
        self._world.disk_used.pop(instance_id, None)

    def _write_keys(self, box: _Box, rental: RentedInstance, now: float, *, force: bool = False) -> None:
        # The file is the attached set and nothing else: what somebody appended on the box vanishes again.
        timing = self._world.timing
        keys = _due_keys(rental, now, timing.key_s)
        if force or keys != box.keys_written or now >= box.keys_written_at + timing.keys_rewritten_s:
            box.layout.authorized_keys.parent.mkdir(parents=True, exist_ok=True)
            durable.write(box.layout.authorized_keys, "".join(f"{key}\n" for key in keys).encode(), mode=0o600)
            box.keys_written, box.keys_written_at = keys, now

    def _account(self, box: _Box, rental: RentedInstance) -> None:
        if box.server is not None:
            traffic, box.server.traffic = box.server.traffic, Traffic()
            self._world.traffic(rental.id, to_box=traffic.to_box, from_box=traffic.from_box)

    def _did(self, box: _Box, done: _Done) -> None:
        box.done = done
        durable.write(box.layout.base / "done.json", json.dumps(asdict(done)).encode())


def _due_keys(rental: RentedInstance, now: float, delay: float) -> tuple[str, ...]:
    return tuple(key.public_key for key in rental.keys if now >= key.attached_at + delay)


def _read_done(base: Path) -> _Done:
    try:
        return _Done(**json.loads((base / "done.json").read_text("utf-8")))
    except FileNotFoundError:
        return _Done()


def _announce(layout: Layout, rental: RentedInstance) -> None:
    """Print the public host key into the container log, in cloud-init's format (cc_ssh: SSH HOST KEY KEYS).

    The line behind it says which image the box stands for.
    """
    private = layout.host_key(rental.identity)
    if not private.exists():
        for old in layout.base.glob("host_key.*"):
            old.unlink()
        key = asyncssh.generate_private_key("ssh-ed25519", comment=f"root@{rental.id}")
        durable.write(private, key.export_private_key(), mode=0o600)
    public = asyncssh.read_private_key(str(private)).export_public_key().decode().strip()
    (layout.etc_ssh / "ssh_host_ed25519_key.pub").write_text(public + "\n", "utf-8")
    with layout.log.open("a", encoding="utf-8") as log:
        log.write(f"-----BEGIN SSH HOST KEY KEYS-----\n{public}\n-----END SSH HOST KEY KEYS-----\n")
        log.write(f"{stands_for(rental.image)}\n")
