"""Provision: the machine that was rented, as the provider tells it and as it shows itself."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, TypeAdapter

from harness.context import JobContext
from harness.core.answers import Disk, Gpus
from harness.core.errors import HostUnreachable
from harness.core.ids import InstanceId, is_label_of
from harness.core.observed import CouldNotLook, Observed
from harness.core.ports import Instance, Offer
from harness.core.questions import DiskOf, GpuList
from harness.facts.reading import ask, attempt, needed

_RATE_BYTES = 16 << 20


def _of_earlier_facts(told: object) -> object:
    """Facts files of 0.1.0 hold the bare names: these were known without a look."""
    return {"value": told} if isinstance(told, list) else told


@dataclass(frozen=True, slots=True)
class PinFacts:
    """The host keys that the box must show, and how they became known."""

    keys: tuple[str, ...]
    how: str


@dataclass(frozen=True, slots=True)
class ProvisionFacts:
    """One look at the rented machine; ``gpu_names`` are the provider's spellings of what the job asks for."""

    gpu_names: Annotated[Observed[tuple[str, ...]], BeforeValidator(_of_earlier_facts)]
    offer: Observed[Offer]
    instance: Observed[Instance]
    labelled: Observed[tuple[InstanceId, ...]]
    pin: Observed[PinFacts]
    fresh_login: Observed[str]
    gpus: Observed[Gpus]
    disk: Observed[Disk]
    download_bytes_per_s: Observed[float]
    now: float


def look(context: JobContext) -> ProvisionFacts:
    """Ask the provider, and the box over a connection of its own."""
    answers = ask(context, gpus := GpuList(), disk := DiskOf(context.job.package.remote_dir))
    return ProvisionFacts(
        gpu_names=attempt(lambda: context.provider().gpu_names(context.job.machine.gpu)),
        offer=attempt(lambda: _offer(context)),
        instance=attempt(lambda: _instance(context)),
        labelled=attempt(lambda: _labelled(context)),
        pin=attempt(lambda: _pin(context)),
        fresh_login=attempt(lambda: _fresh_login(context)),
        gpus=answers[gpus],
        disk=answers[disk],
        download_bytes_per_s=attempt(lambda: _rate(context)),
        now=context.clock.now(),
    )


def _offer(context: JobContext) -> Offer:
    rental = needed(context.history.rental, "no instance was rented")
    return TypeAdapter(Offer).validate_python(dict(rental.offer))


def _instance(context: JobContext) -> Instance:
    known = needed(context.history.rental, "no instance was rented").instance_id
    return needed(context.provider().instance(known), f"the provider knows no instance {known}")


def _labelled(context: JobContext) -> tuple[InstanceId, ...]:
    labels, rental = set(context.history.labels), context.history.rental  # and those that this ledger forgot
    listing = context.provider().instances()
    if rental is not None and rental.instance_id not in listing.ids():
        raise CouldNotLook(f"the listing lacks instance {rental.instance_id}, which was rented: it is not whole")
    name = context.job.name
    found = (one.id for one in listing.instances if one.label in labels or is_label_of(one.label, name))
    return tuple(sorted(found, key=str))


def _pin(context: JobContext) -> PinFacts:
    pin = needed(context.history.pin, "no host key was pinned")
    return PinFacts(pin.keys, pin.how)


def _fresh_login(context: JobContext) -> str:
    with closing(context.fresh_host()) as host:
        result = host.run(["id", "-un"], timeout=30)
    if result.status != 0:
        raise HostUnreachable(f"a new login answered with status {result.status}")
    return result.stdout.decode("utf-8", "replace").strip()


def _rate(context: JobContext) -> float:
    with closing(context.fresh_host()) as host:
        host.run(["true"], timeout=30)
        began = context.clock.monotonic()
        result = host.run(["head", "-c", str(_RATE_BYTES), "/dev/zero"], timeout=60, limit=_RATE_BYTES)
        seconds = context.clock.monotonic() - began
    if len(result.stdout) != _RATE_BYTES:
        raise HostUnreachable(f"asked for {_RATE_BYTES} bytes, got {len(result.stdout)}")
    return _RATE_BYTES / max(seconds, 1e-6)
