"""One rented instance and how it changes with time. Pure.

The order of states is the provider's: null (provisioning), created, loading,
running; then stopped, or one of the states from which nothing comes back by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as checked_dataclass

from harness.core.ports import InstanceStatus
from harness.emulator.market import Ask

Status = InstanceStatus

GPU_BILLED: Final = frozenset({Status.RUNNING, Status.FROZEN})
"""States in which the GPUs are billed; the disk is billed in every state."""

GONE_AFTER_END_S: Final = 48 * 3600.0
"""An instance that reached its end is stopped, and may be deleted this much later."""


@checked_dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Timing:
    """Time that things take, in seconds of the emulator's clock. The defaults suit a demonstration."""

    created_s: float = 0.3
    loading_s: float = 0.6
    running_s: float = 1.5
    ssh_s: float = 0.2
    key_s: float = 0.1
    hidden_s: float = 0.0
    destroy_lag_s: float = 0.0
    reboot_s: float = 0.5
    log_s: float = 0.1
    keys_rewritten_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class AttachedKey:
    """An SSH public key attached through the API, and when."""

    id: int
    public_key: str
    attached_at: float


@dataclass(frozen=True, slots=True)
class PriceIncrease:
    """A host's offer to go on until ``end_at`` for ``price_per_hour`` USD, which the renter may accept or reject."""

    id: int
    instance_id: int
    price_per_hour: float
    end_at: float
    created_at: float


@dataclass(frozen=True, slots=True)
class RentedInstance:
    """An instance.

    ``boots`` counts container starts, ``identity`` new addresses and host keys, ``wipes`` lost disks.
    ``mount_path`` is where its volume shows in the box, absolute.
    """

    id: int
    ask: Ask
    api_key: str
    label: str | None
    image: str
    disk_gb: float
    runtype: str
    onstart: str
    env: dict[str, str]
    created_at: float
    boot_at: float
    end_at: float
    billed_until: float
    ssh_port: int
    proxy_port: int
    price_per_hour: float
    is_bid: bool = False
    status: Status = Status.PROVISIONING
    intended: Status = Status.RUNNING
    status_msg: str = ""
    running_since: float | None = None
    held_at: Status | None = None
    gone_at: float | None = None
    boots: int = 0
    identity: int = 0
    wipes: int = 0
    keys: tuple[AttachedKey, ...] = field(default=())
    volume_id: int | None = None
    mount_path: str = ""
    template_hash_id: str | None = None

    @property
    def booting(self) -> bool:
        """True on the way to running."""
        return self.intended is Status.RUNNING and self.status in {
            Status.PROVISIONING,
            Status.CREATED,
            Status.LOADING,
            Status.REBOOTING,
        }


def next_change(rental: RentedInstance, timing: Timing) -> tuple[float, Status | None] | None:
    """When and into what the instance changes next by itself; a None status means it disappears."""
    if rental.gone_at is not None:
        return rental.gone_at, None
    if rental.held_at is rental.status:
        return None
    if rental.booting:
        return _boot_step(rental, timing)
    if rental.status in {Status.RUNNING, Status.FROZEN}:
        return rental.end_at, Status.STOPPED
    if rental.status is Status.STOPPED:
        return rental.end_at + GONE_AFTER_END_S, None
    return None


def _boot_step(rental: RentedInstance, timing: Timing) -> tuple[float, Status]:
    if rental.status is Status.PROVISIONING:
        return rental.boot_at + timing.created_s, Status.CREATED
    if rental.status is Status.CREATED:
        return rental.boot_at + timing.loading_s, Status.LOADING
    if rental.status is Status.LOADING:
        return rental.boot_at + timing.running_s, Status.RUNNING
    return rental.boot_at + timing.reboot_s, Status.RUNNING
