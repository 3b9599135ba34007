"""Everything of a job that bills now, by its log: at which price, and the command that ends it. Pure.

A stopped instance bills its disk, not its price by the hour. Where the log does not tell whether something bills, that
is said: "not proven to be gone" is never read as gone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from harness.core.errors import GateHeld, GateUnknown, InstanceDead
from harness.core.ids import InstanceId, JobName
from harness.core.lifecycle import ORDER, Stage
from harness.core.money import OWN, as_paid
from harness.core.ports import Instance, InstanceStatus
from harness.core.text import printable
from harness.ledger.events import DestroyIntended
from harness.ledger.history import History, Rental
from harness.providers import registry

_CENTS = 0.1
"""USD an hour below which a price is told to the hundredth of a cent: a disk bills so little."""
_REASON = 300
"""Characters of a reason beside what bills: it may list many checks."""
_GATES = frozenset({GateHeld.__name__, GateUnknown.__name__})
_STANDS = frozenset({InstanceStatus.STOPPED, InstanceStatus.EXITED})


class Billing(StrEnum):
    """State of what a job has rented, as far as money goes."""

    NOTHING = "nothing"
    RUNNING = "running"
    STOPPED = "stopped"
    """Its GPUs are no longer billed, its disk is."""
    ENDING = "ending"
    """Its destruction was begun; that it is gone is not proven."""
    GONE = "gone"
    """It is proven to be gone; that its bill has ended is not."""
    RENTING = "renting"
    """A rent was begun and of its outcome nothing is recorded."""
    UNKNOWN = "unknown"
    """Something may bill that the log does not account for, or whose state it does not tell."""


@dataclass(frozen=True, slots=True)
class Bills:
    """Everything of a job that bills now.

    ``usd_per_hour`` is what it bills at most, None where that is not known. ``embedded``: no real money is paid;
    ``own``: it is the operator's own machine, which he has claimed and nobody bills.
    ``command`` ends it without giving anything up, None where nothing bills; ``at_once``, where there is one, ends it
    now, for the loss of what is on the instance alone. ``held``: reason of the gate or limit that holds the job.
    ``absent``: the provider's complete list does not show the instance.
    """

    job: JobName
    state: Billing
    instance_id: InstanceId | None = None
    usd_per_hour: float | None = None
    embedded: bool = False
    command: str | None = None
    at_once: str | None = None
    held: str | None = None
    absent: bool = False
    own: bool = False

    @property
    def may_bill(self) -> bool:
        """True unless nothing bills for certain."""
        return self.state is not Billing.NOTHING

    @property
    def price(self) -> str:
        """The price in words, for a person: ``$15.95/h``, or what it goes by where that is not known."""
        if self.own:
            return f"nothing ({OWN})"
        if self.usd_per_hour is not None:
            told = f"${self.usd_per_hour:.{2 if self.usd_per_hour >= _CENTS else 4}f}/h"
        elif self.state in {Billing.STOPPED, Billing.ENDING}:
            told = "the provider's storage price"
        else:
            told = "a price that is not known"
        return as_paid(told, embedded=self.embedded)

    @property
    def brief(self) -> str:
        """A few words for a line of many: what bills, at which price."""
        return {
            Billing.NOTHING: "nothing bills",
            Billing.RUNNING: f"instance {self.instance_id} bills {self.price}",
            Billing.STOPPED: f"instance {self.instance_id} is stopped, its disk bills {self.price}",
            Billing.ENDING: f"instance {self.instance_id} is not proven to be gone, and may bill {self.price}",
            Billing.GONE: f"instance {self.instance_id} is gone, the end of its bill is not proven",
            Billing.RENTING: f"a rent without an outcome may bill {self.price}",
            Billing.UNKNOWN: "something may bill that the log does not account for"
            if self.instance_id is None
            else f"instance {self.instance_id} was last seen dead, and may bill",
        }[self.state]


def bills(history: History, *, forgotten: bool = False) -> Bills:
    """Everything of a job that bills now; ``forgotten``: its folder tells of an instance that its log does not know."""
    return replace(_bills(history, forgotten=forgotten), own=not history.job.is_billed)


def _bills(history: History, *, forgotten: bool) -> Bills:
    job, rental, begun = history.job.name, history.rental, history.unresolved
    embedded = registry.is_embedded(history.job.provider.kind)
    if rental is not None:
        return _of_rental(history, rental, embedded=embedded)
    if begun is not None:
        price = _number(begun.offer.get("usd_per_hour"))
        return Bills(job, Billing.RENTING, None, price, embedded, command=f"harness run {job}")
    if history.in_doubt or forgotten:
        return unaccounted(job, embedded=embedded)
    return Bills(job, Billing.NOTHING, embedded=embedded)


def unaccounted(job: JobName, *, embedded: bool = False) -> Bills:
    """A job whose log does not read, or does not account for what may bill."""
    return Bills(job, Billing.UNKNOWN, embedded=embedded, command=f"harness orphans {job}")


def as_listed(found: Bills, listed: Instance | None) -> Bills:
    """State of what bills by the provider's complete list, which goes before the log.

    ``listed``: the instance, None when it is not in the list. A status that tells nothing of money leaves
    what the log says.
    """
    if found.instance_id is None or found.state in {Billing.NOTHING, Billing.GONE}:
        return found
    state, price = found.state, found.usd_per_hour
    if listed is None:
        state, price = Billing.UNKNOWN, None
    elif listed.status in _STANDS:
        state, price = Billing.STOPPED, price if state is Billing.STOPPED else listed.disk_usd_per_hour
    elif listed.status is InstanceStatus.OFFLINE:
        state, price = (state, price) if state is Billing.STOPPED else (Billing.UNKNOWN, None)
    elif listed.status is not InstanceStatus.UNKNOWN:
        state, price = Billing.RUNNING, listed.usd_per_hour
    if found.state is Billing.ENDING:
        state = found.state
    return replace(found, state=state, usd_per_hour=price, absent=listed is None)


def sentence(bills: Bills, *, why: bool = True) -> str:
    """Sentences for a person: what bills at which price, and the command that ends it.

    ``why``: with the reason that holds the job, which otherwise has just been told.
    """
    if bills.state is Billing.NOTHING:
        return _said(bills)
    held = f" Held: {bills.held.rstrip('.')}." if bills.held is not None and why else ""
    return f"{_said(bills)}{held} {bills.command} {_way(bills)}."


def _said(bills: Bills) -> str:
    """Sentence about what bills, at which price."""
    which, price, unlisted = f"instance {bills.instance_id}", bills.price, "is not in the provider's list"
    begun = f"The destruction of {which} was begun and is not proven"
    if bills.instance_id is not None:
        seen = unlisted if bills.absent else "was last seen dead"
        unknown = f"I{which[1:]} {seen}: whether it bills, and how much, the provider's console tells."
    else:
        told = f"Something that the log of job {bills.job} does not account for may bill"
        unknown = f"{as_paid(told, embedded=bills.embedded)}."
    return {
        Billing.NOTHING: f"Nothing of job {bills.job} bills.",
        Billing.RUNNING: f"I{which[1:]} bills {price}.",
        Billing.STOPPED: f"I{which[1:]} is stopped: only its disk bills, at {price}.",
        Billing.ENDING: f"{begun}; it {unlisted}." if bills.absent else f"{begun}: until then it may bill {price}.",
        Billing.GONE: f"I{which[1:]} is gone; that its bill has ended is not proven.",
        Billing.RENTING: f"A rent was begun and its outcome is not known: an instance may bill {price}.",
        Billing.UNKNOWN: unknown,
    }[bills.state]


def _way(bills: Bills) -> str:
    """Words for what the command does about it, and for the one that ends it at once."""
    if bills.at_once is None:
        return {
            Billing.ENDING: "proves the end",
            Billing.GONE: "proves the end",
            Billing.RENTING: "finds it, and goes on",
            Billing.UNKNOWN: "ends it" if bills.instance_id is not None else "shows it",
        }.get(bills.state, "ends it")
    on, now = "goes on to the verified file and ends it", "ends it at once"
    if bills.state is Billing.UNKNOWN:
        on, now = "goes on once it answers again", "gives it up"
    elif bills.held is not None:
        on = "goes on once that is mended"
    return f"{on}; {bills.at_once} {now}, and says first what would be lost"


def next_command(history: History, found: Bills) -> str | None:
    """The command that goes on with a job; for a closed one None."""
    if history.closed:
        return None
    if found.state in {Billing.ENDING, Billing.GONE, Billing.UNKNOWN}:
        return found.command
    return f"harness destroy {history.job.name}" if history.job.adopted else f"harness run {history.job.name}"


def _of_rental(history: History, rental: Rental, *, embedded: bool) -> Bills:
    job, instance_id, gone = history.job.name, rental.instance_id, history.destroyed
    home = history.job.adopted or _is_home(history)
    run, destroy, abandon = f"harness run {job}", f"harness destroy {job}", f"harness abandon {job}"
    if gone is not None:
        ended = history.closed or gone.billing is not None
        state, command = (Billing.NOTHING, None) if ended else (Billing.GONE, destroy if home else run)
        return Bills(job, state, instance_id, None, embedded, command)
    price = disk_price(rental.offer) if history.instance_stopped else rental.usd_per_hour
    if history.destroy_intended:
        behind_a_release = history.all(DestroyIntended)[-1].release is not None
        command = (destroy if home else run) if behind_a_release else abandon
        return Bills(job, Billing.ENDING, instance_id, price, embedded, command)
    state, held = Billing.STOPPED if history.instance_stopped else Billing.RUNNING, history.held
    if held is not None and held.error == InstanceDead.__name__:
        state, price = Billing.UNKNOWN, None
    found = Bills(job, state, instance_id, price, embedded)
    if held is not None and held.error in _GATES:
        found = replace(found, held=printable(" ".join(held.reason.split()), _REASON))
    if home:
        return replace(found, command=destroy)
    if history.launches == 0:  # nothing on it is of value yet
        return replace(found, command=abandon)
    return replace(found, command=run, at_once=abandon)


def _is_home(history: History) -> bool:
    """True when the verified file is here, and so ``harness destroy`` goes on to the end."""
    return history.stage is None or ORDER.index(history.stage) > ORDER.index(Stage.POSTDOWNLOAD)


def disk_price(offer: Mapping[str, Any]) -> float | None:
    """Price of the disk alone (USD an hour), by the offer as it was recorded; None where it does not tell."""
    return _number(offer.get("disk_usd_per_hour"))


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return None
    return float(value)
