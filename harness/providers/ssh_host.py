"""A box that somebody already has, as a ``ports.Provider`` of one instance: nothing is rented, nothing destroyed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from harness.core.errors import ProviderUnavailable, Refused
from harness.core.ids import InstanceId, OfferId
from harness.core.ports import (
    Account,
    Bill,
    Charge,
    CreateRequest,
    DestroyReply,
    Endpoint,
    Instance,
    InstanceStatus,
    Listing,
    Offer,
    OfferQuery,
    Volume,
)

THE_BOX = InstanceId(1)
"""The id of the only instance."""


@dataclass(frozen=True, slots=True)
class SshHostProvider:
    """A ``ports.Provider`` for a box at a known address. It costs nothing that this tool could count or stop."""

    endpoint: Endpoint
    gpu_name: str
    num_gpus: int
    disk_gb: float
    label: str | None = None

    @property
    def name(self) -> str:
        """The provider's name in events and releases."""
        return "ssh-host"

    def account(self) -> Account:
        """Nobody's account: user 0 with nothing to spend."""
        return Account(user_id=0, credit_usd=0.0)

    def search(self, query: OfferQuery) -> tuple[Offer, ...]:
        """Refused: there is no market."""
        del query
        self._refuse("searched for")

    def create(self, offer: OfferId, request: CreateRequest) -> InstanceId:
        """Refused: the box is there already."""
        del offer, request
        self._refuse("rented")

    def instance(self, instance_id: InstanceId) -> Instance | None:
        """The box, taken to be running: whether it is, SSH tells."""
        return self._box() if instance_id == THE_BOX else None

    def instances(self) -> Listing:
        """The box."""
        return Listing((self._box(),))

    def attach_key(self, instance_id: InstanceId, public_key: str) -> None:
        """Refused: who may log in is the owner's business."""
        del instance_id, public_key
        self._refuse("given a key")

    def container_log(self, instance_id: InstanceId) -> str:
        """Not to be had: there is no second way to the box."""
        raise ProviderUnavailable(f"box {instance_id} at {self.endpoint.host} has no container log")

    def start(self, instance_id: InstanceId) -> None:
        """Refused."""
        del instance_id
        self._refuse("started")

    def stop(self, instance_id: InstanceId) -> None:
        """Refused."""
        del instance_id
        self._refuse("stopped")

    def destroy(self, instance_id: InstanceId) -> DestroyReply:
        """Refused: the box is its owner's."""
        del instance_id
        self._refuse("destroyed")

    def charges(self, instance_id: InstanceId) -> tuple[Charge, ...]:
        """None: nobody bills for it."""
        del instance_id
        return ()

    def volumes(self) -> tuple[Volume, ...]:
        """None."""
        return ()

    def bills(self) -> tuple[Bill, ...]:
        """None."""
        return ()

    def _refuse(self, what: str) -> NoReturn:
        raise Refused(
            f"the box at {self.endpoint.host} cannot be {what}: it is not rented",
            remedy="Do it yourself on that machine, or use a job whose provider rents machines.",
        )

    def _box(self) -> Instance:
        return Instance(
            id=THE_BOX,
            label=self.label,
            status=InstanceStatus.RUNNING,
            intended_status="running",
            status_message="",
            machine_id=0,
            gpu_name=self.gpu_name,
            num_gpus=self.num_gpus,
            usd_per_hour=0.0,
            disk_gb=self.disk_gb,
            endpoints=(self.endpoint,),
            started_at=None,
            ends_at=None,
            is_bid=False,
        )
