"""Holds everything that bills against ``limits.toml``, and stops what is over it: the disk is kept, people are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from harness.core.errors import HarnessError, JobBusy
from harness.core.ports import Clock, Instance, Provider
from harness.core.text import printable
from harness.guard.stop import stop_listed
from harness.ledger import account
from harness.ledger.account import AccountLook, Listed
from harness.ledger.events import InstanceStopped
from harness.ledger.history import History
from harness.ledger.jobs import Ledger
from harness.ledger.limits import FILE, AccountLimits
from harness.ledger.ownership import Known
from harness.ledger.two_clocks import TwoClocks
from harness.notify.forgotten import Forgotten


@dataclass(frozen=True, slots=True)
class Watched:
    """One provider's account that was looked at, with what the ledger knows of it; ``embedded``: nobody pays it."""

    embedded: bool
    provider: Provider
    known: Known
    instances: tuple[Instance, ...]


def enforce(
    ledger: Ledger,
    histories: Sequence[History],
    watched: Mapping[object, Watched],
    limits: AccountLimits,
    clock: Clock,
) -> tuple[tuple[Forgotten, ...], tuple[str, ...]]:
    """Stop what is over the limits; what is to be told of it, and what could not be looked at.

    Where a bill cannot be read, what the ledger reckons is the least that was spent: over that is over.
    """
    looks, unseen = dict[object, AccountLook](), []
    by_the_bill = limits.per_day is not None or limits.per_month is not None
    for place, one in watched.items():
        try:
            bills = one.provider.bills() if by_the_bill else ()
            looks[place] = AccountLook(one.instances, one.provider.volumes(), bills)
        except HarnessError as error:
            unseen.append(f"what was charged could not be looked at: {printable(str(error), 300)}")
            looks[place] = AccountLook(one.instances, (), ())
    seen = account.spending(histories, looks, _now(watched, clock))
    over = account.over(seen, limits)
    if not over:
        return (), tuple(unseen)
    why = "; ".join(over)
    listed = [Listed(at, it, one.known.of_instance(it)) for at, one in watched.items() for it in one.instances]
    stopped = [_stop(ledger, watched[one.place], one, why, clock) for one in account.to_stop(listed, seen, limits)]
    idle = "" if stopped else f"; nothing runs that may be stopped (stop = {limits.stop.value!r})"
    return (Forgotten(f"limits {over[0].split(':')[0]}", f"{FILE}: {why}{idle}"), *stopped), tuple(unseen)


def _now(watched: Mapping[object, Watched], clock: Clock) -> TwoClocks:
    """This moment by the first provider that tells it, too: this machine's clock begins no day and no month."""
    for one in watched.values():
        with suppress(HarnessError):
            at = one.provider.account().at
            if at is not None:
                return TwoClocks(at, clock.now())
    return TwoClocks(clock.now(), clock.now())


def _stop(ledger: Ledger, at: Watched, one: Listed, why: str, clock: Clock) -> Forgotten:
    """Stop one instance, and record it in its job's log unless a process drives the job: that one sees it itself."""
    instance = one.instance
    problem = stop_listed(at.provider, instance, clock)
    what = f"instance {instance.id} ({printable(instance.label or 'no label', 80)}; {one.whose.told})"
    if problem is not None:
        return Forgotten(f"stop {instance.id}", f"{what} is over the limits, and was NOT stopped: {problem}")
    claim, unwritten = at.known.instances.get(instance.id), ""
    try:
        if claim is not None and not claim.gone:
            with suppress(JobBusy), ledger.store.lock(claim.job):
                ledger.store.append(claim.job, InstanceStopped(instance.id, f"{FILE}: {why}"))
    except HarnessError as error:  # the others are to be stopped all the same
        unwritten = f"; job {claim.job if claim else ''} could not record it: {printable(str(error), 300)}"
    return Forgotten(f"stop {instance.id}", f"{what} was stopped, its disk kept: {why}{unwritten}")
