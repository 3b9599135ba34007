"""Provision: the machine that was rented, as the provider tells it and as it shows itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from harness.errors import HostUnreachable
from harness.facts.box import Disk, Gpus
from harness.facts.desk import Desk
from harness.facts.reading import ask, attempt, typed
from harness.observed import CouldNotLook, Observed
from harness.ports import Instance, Offer, Question
from harness.providers.offers import gpu_names

_RATE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class PinFacts:
    """The host keys that the box must show, and how they became known."""

    keys: tuple[str, ...]
    how: str


@dataclass(frozen=True, slots=True)
class ProvisionFacts:
    """One look at the rented machine; ``gpu_names`` are the provider's spellings of what the job asks for."""

    gpu_names: tuple[str, ...]
    offer: Observed[Offer]
    instance: Observed[Instance]
    labelled: Observed[tuple[int, ...]]
    pin: Observed[PinFacts]
    fresh_login: Observed[str]
    gpus: Observed[Gpus]
    disk: Observed[Disk]
    download_bytes_per_s: Observed[float]
    now: float


def look(desk: Desk) -> ProvisionFacts:
    """Ask the provider, and the box over a connection of its own."""
    answers = ask(desk, [Question("gpus", "gpus"), Question("disk", "disk", {"path": desk.job.package.remote_dir})])
    return ProvisionFacts(
        gpu_names=gpu_names(desk.job.machine.gpu),
        offer=attempt(lambda: _offer(desk)),
        instance=attempt(lambda: _instance(desk)),
        labelled=attempt(lambda: _labelled(desk)),
        pin=attempt(lambda: _pin(desk)),
        fresh_login=attempt(lambda: _fresh_login(desk)),
        gpus=typed(answers.get("gpus"), Gpus),
        disk=typed(answers.get("disk"), Disk),
        download_bytes_per_s=attempt(lambda: _rate(desk)),
        now=desk.clock.now(),
    )


def _offer(desk: Desk) -> Offer:
    if desk.history.rental is None:
        raise CouldNotLook("no instance was rented")
    recorded: Mapping[str, Any] = desk.history.rental.offer
    return TypeAdapter(Offer).validate_python(dict(recorded))


def _instance(desk: Desk) -> Instance:
    rental = desk.history.rental
    if rental is None:
        raise CouldNotLook("no instance was rented")
    instance = desk.provider().instance(rental.instance_id)
    if instance is None:
        raise CouldNotLook(f"the provider knows no instance {rental.instance_id}")
    return instance


def _labelled(desk: Desk) -> tuple[int, ...]:
    labels, rental = set(desk.history.labels), desk.history.rental
    listing = desk.provider().instances()
    if rental is not None and rental.instance_id not in listing.ids():
        raise CouldNotLook(f"the listing lacks instance {rental.instance_id}, which was rented: it is not whole")
    return tuple(sorted(instance.id for instance in listing.instances if instance.label in labels))


def _pin(desk: Desk) -> PinFacts:
    if desk.history.pin is None:
        raise CouldNotLook("no host key was pinned")
    return PinFacts(desk.history.pin.keys, desk.history.pin.how)


def _fresh_login(desk: Desk) -> str:
    host = desk.fresh_host()
    try:
        result = host.run(["id", "-un"], timeout=30)
    finally:
        host.close()
    if result.status != 0:
        raise HostUnreachable(f"a new login answered with status {result.status}")
    return result.stdout.decode("utf-8", "replace").strip()


def _rate(desk: Desk) -> float:
    host = desk.fresh_host()
    try:
        host.run(["true"], timeout=30)
        began = desk.clock.monotonic()
        result = host.run(["head", "-c", str(_RATE_BYTES), "/dev/zero"], timeout=60, limit=_RATE_BYTES)
        seconds = desk.clock.monotonic() - began
    finally:
        host.close()
    if len(result.stdout) != _RATE_BYTES:
        raise HostUnreachable(f"asked for {_RATE_BYTES} bytes, got {len(result.stdout)}")
    return _RATE_BYTES / max(seconds, 1e-6)
