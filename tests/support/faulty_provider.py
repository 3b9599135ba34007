"""A provider that fails on demand, around one that works: the faults are injected, the rest is real."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

from harness.core.ids import InstanceId, OfferId
from harness.core.ports import (
    Account,
    Bill,
    Charge,
    CreateRequest,
    DestroyReply,
    Instance,
    Listing,
    Offer,
    OfferQuery,
    PendingPrice,
    Provider,
    Volume,
)

T = TypeVar("T")


@dataclass(slots=True)
class Fault:
    """What goes wrong with one method: ``outcome`` is raised when it is an exception (or a kill), else returned.

    ``after`` calls pass first, ``times`` are hit (0: all that follow). With ``commit`` the
    call takes effect at the provider before its answer is replaced: a lost reply.
    """

    method: str
    outcome: object
    after: int = 0
    times: int = 1
    commit: bool = False
    seen: int = 0

    def strikes(self) -> bool:
        """Whether this call is hit; counts it."""
        self.seen += 1
        return self.seen > self.after and (not self.times or self.seen <= self.after + self.times)


class FaultyProvider:
    """A ``ports.Provider``; ``calls`` lists every call that reached it, as method name and arguments."""

    def __init__(self, inner: Provider) -> None:
        self.inner = inner
        self.faults: list[Fault] = []
        self.calls: list[tuple[str, tuple[object, ...]]] = []

    def break_(self, method: str, outcome: object, *, after: int = 0, times: int = 1, commit: bool = False) -> None:
        """Let a method raise or answer ``outcome`` instead."""
        self.faults.append(Fault(method, outcome, after, times, commit))

    def count(self, method: str) -> int:
        """How often a method was called."""
        return sum(called == method for called, _ in self.calls)

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def host_key_source(self) -> str:
        return self.inner.host_key_source

    def gpu_names(self, asked: str) -> tuple[str, ...]:
        return self.inner.gpu_names(asked)

    def account(self) -> Account:
        return self._call(self.inner.account)

    def search(self, query: OfferQuery) -> tuple[Offer, ...]:
        return self._call(self.inner.search, query)

    def create(self, offer: OfferId, request: CreateRequest) -> InstanceId:
        return self._call(self.inner.create, offer, request)

    def instance(self, instance_id: InstanceId) -> Instance | None:
        return self._call(self.inner.instance, instance_id)

    def instances(self) -> Listing:
        return self._call(self.inner.instances)

    def pending_prices(self, instance_id: InstanceId) -> tuple[PendingPrice, ...]:
        return self._call(self.inner.pending_prices, instance_id)

    def attach_key(self, instance_id: InstanceId, public_key: str) -> None:
        self._call(self.inner.attach_key, instance_id, public_key)

    def host_keys(self, instance_id: InstanceId, *, newest: bool = False) -> tuple[str, ...]:
        return self._call(self.inner.host_keys, instance_id, newest=newest)

    def start(self, instance_id: InstanceId) -> None:
        self._call(self.inner.start, instance_id)

    def stop(self, instance_id: InstanceId) -> None:
        self._call(self.inner.stop, instance_id)

    def destroy(self, instance_id: InstanceId) -> DestroyReply:
        return self._call(self.inner.destroy, instance_id)

    def charges(self, instance_id: InstanceId) -> tuple[Charge, ...]:
        return self._call(self.inner.charges, instance_id)

    def volumes(self) -> tuple[Volume, ...]:
        return self._call(self.inner.volumes)

    def bills(self) -> tuple[Bill, ...]:
        return self._call(self.inner.bills)

    def _call(self, method: Callable[..., T], *arguments: object, **named: object) -> T:
        name = method.__name__
        self.calls.append((name, arguments))
        for fault in self.faults:
            if fault.method == name and fault.strikes():
                if fault.commit:
                    method(*arguments, **named)
                if isinstance(fault.outcome, BaseException):
                    raise fault.outcome
                return cast("T", fault.outcome)
        return method(*arguments, **named)
