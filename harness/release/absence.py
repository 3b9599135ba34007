"""Proof that an instance is gone, and that it no longer bills. Pure but for the provider and the clock it is given.

A delete that was answered with success is a request, nothing more. Gone is what several
looks in a row agree on, over a span of time, each with a control that shows that the
looking works. Anything else, above all a look that failed, starts the count anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from harness.core.errors import NotProven, ProviderUnavailable
from harness.core.ids import InstanceId
from harness.core.ports import BooksInSteps, Clock, Instance, Listing, Provider, Volume

_LONGEST_PAUSE_S = 10.0
_SHORTEST_PAUSE_S = 0.05
_SHOWN_DOUBTS = 5
_UNLISTED = 5
"""Instances that are asked for one by one when a list lacks them: services limit how often one may ask."""
_NOISE_USD = 1e-9

T = TypeVar("T")


class _Doubt(Exception):
    """This look does not say that the instance is gone; the message says what it saw."""


@dataclass(frozen=True, slots=True)
class AbsenceLook:
    """One look that agrees: the account answered, the instance did not show, and the whole list lacks it.

    ``at`` is seconds since the epoch. ``others`` is how many instances were listed; ``control``
    is one of them that the single show did show, None when the account has no other.
    """

    at: float
    user_id: int
    others: int
    control: InstanceId | None


@dataclass(frozen=True, slots=True)
class AbsenceProof:
    """The looks that agree, in order."""

    instance_id: InstanceId
    looks: tuple[AbsenceLook, ...]


@dataclass(frozen=True, slots=True)
class BillingLook:
    """Sum that the instance was charged up to one time (seconds since the epoch, USD)."""

    at: float
    usd: float
    charges: int


@dataclass(frozen=True, slots=True)
class BillingProof:
    """Looks between which the charges did not grow."""

    instance_id: InstanceId
    looks: tuple[BillingLook, ...]

    @property
    def usd(self) -> float:
        """Cost of the instance (USD)."""
        return self.looks[-1].usd


def prove_absence(
    provider: Provider,
    instance_id: InstanceId,
    clock: Clock,
    *,
    deadline_s: float,
    window_s: float = 60.0,
    owner: int | None = None,
) -> AbsenceProof:
    """Three looks in a row, and as many as fill ``window_s`` seconds, that agree that the instance is gone.

    ``owner`` is the user id under which it was rented: another account cannot see it, alive
    or not. Not given, the first account seen must stay the same. Raises NotProven, with what
    was seen, when ``deadline_s`` seconds pass first.
    """

    def look() -> AbsenceLook:
        nonlocal owner
        found = _look_for(provider, instance_id, clock, owner)
        owner = found.user_id
        return found

    claim = f"instance {instance_id} is not proven to be gone"
    looks = _agree(look, clock, agreements=3, window_s=window_s, deadline_s=deadline_s, claim=claim)
    return AbsenceProof(instance_id, looks)


@dataclass(frozen=True, slots=True)
class Holdings:
    """Instances and volumes of an account that were looked for."""

    instances: tuple[Instance, ...] = ()
    volumes: tuple[Volume, ...] = ()


class _Seen(Exception):
    """Something was found: one look is enough for that."""

    def __init__(self, holdings: Holdings) -> None:
        self.holdings = holdings


def look_for(
    provider: Provider,
    clock: Clock,
    wanted: Callable[[str | None], bool],
    *,
    known: Iterable[InstanceId] = (),
    billed: Callable[[], Iterable[InstanceId]] = tuple,
    alive: Sequence[InstanceId] = (),
    doubt: Callable[[Instance | Volume], str | None] = lambda _: None,
    agreements: int,
    window_s: float,
    deadline_s: float,
) -> Holdings:
    """Everything in the account with a ``wanted`` label, and of the ``known`` instances what still shows.

    Where the list is empty, no listed instance shows that the looking works: those that were ``billed`` are asked for.
    Nothing, only when so many looks in a row agree on it over ``window_s`` seconds, as with ``prove_absence``: none
    agrees whose list lacks an instance that the ledger believes to be ``alive`` and that shows, or holds what may be
    wanted, as ``doubt`` says. Raises NotProven when they do not within ``deadline_s`` seconds.
    """
    owner: int | None = None

    def look() -> AbsenceLook:
        nonlocal owner
        account, listing = provider.account(), provider.instances()
        if owner is not None and account.user_id != owner:
            raise _Doubt(f"the API key was user {owner}'s, and is user {account.user_id}'s now")
        owner = account.user_id
        numbers = (*known, *(() if listing.instances else billed()))
        shown = [one for number in numbers if (one := provider.instance(number)) is not None]
        found = {one.id: one for one in (*shown, *listing.instances) if one in shown or wanted(one.label)}
        volumes = provider.volumes()
        stored = tuple(one for one in volumes if wanted(one.label))
        if found or stored:
            raise _Seen(Holdings(tuple(found.values()), stored))
        if (unlisted := hidden(provider, listing, alive)) is not None:
            raise _Doubt(f"instance {unlisted} shows and is not listed: the list is not whole")
        listed: tuple[Instance | Volume, ...] = (*listing.instances, *volumes)
        if doubts := [told for one in listed if (told := doubt(one)) is not None]:
            raise _Doubt("; ".join(doubts))
        return AbsenceLook(clock.now(), owner, len(listing.ids()), _control(provider, listing.ids()))

    try:
        claim = "it is not proven that nothing was rented"
        _agree(look, clock, agreements=agreements, window_s=window_s, deadline_s=deadline_s, claim=claim)
    except _Seen as seen:
        return seen.holdings
    return Holdings()


def hidden(provider: Provider, listing: Listing, alive: Sequence[InstanceId]) -> InstanceId | None:
    """One of the instances believed to be ``alive`` that shows and is not listed: the list is not whole then."""
    listed = listing.ids()
    unlisted = [one for one in alive if one not in listed][:_UNLISTED]
    return next((one for one in unlisted if provider.instance(one) is not None), None)


def billing_stopped(
    provider: Provider,
    instance_id: InstanceId,
    clock: Clock,
    *,
    deadline_s: float,
    window_s: float = 60.0,
    expect_charges: bool = True,
) -> BillingProof:
    """Two looks in a row, and as many as fill ``window_s`` seconds, that see the same charges.

    ``expect_charges``: an instance that ran was billed, so that no charge at all means that
    the bill is not written yet; say False for one that never ran. Where the bill grows in steps, the looks span one
    of them at least, and ``deadline_s`` is as much later. Raises NotProven.
    """
    step_s = provider.bills_every_s if isinstance(provider, BooksInSteps) else 0.0
    window_s, deadline_s = max(window_s, step_s), deadline_s + step_s
    baseline: float | None = None

    def look() -> BillingLook:
        nonlocal baseline
        billed = provider.charges(instance_id)
        if not billed and expect_charges:
            raise _Doubt("no charge for it is listed yet")
        usd = math.fsum(charge.usd for charge in billed)
        before = usd if baseline is None else baseline
        if baseline is None or abs(usd - before) > _NOISE_USD:
            baseline = usd
        if baseline != before:
            raise _Doubt(f"its charges went from {before:.4f} to {usd:.4f} USD")
        return BillingLook(clock.now(), usd, len(billed))

    claim = f"instance {instance_id} may still bill"
    looks = _agree(look, clock, agreements=2, window_s=window_s, deadline_s=deadline_s, claim=claim)
    return BillingProof(instance_id, looks)


def _look_for(provider: Provider, instance_id: InstanceId, clock: Clock, owner: int | None) -> AbsenceLook:
    account = provider.account()
    if owner is not None and account.user_id != owner:
        raise _Doubt(f"the API key belongs to user {account.user_id}, the instance to user {owner}")
    shown = provider.instance(instance_id)
    if shown is not None:
        raise _Doubt(f"it is still shown ({shown.status})")
    listed = provider.instances().ids()
    if instance_id in listed:
        raise _Doubt("it is still listed")
    return AbsenceLook(clock.now(), account.user_id, len(listed), _control(provider, listed))


def _control(provider: Provider, listed: frozenset[InstanceId]) -> InstanceId | None:
    """A listed instance that does show, None when nothing is listed; raises a doubt when it does not show."""
    control = min(listed, key=str, default=None)
    if control is not None and provider.instance(control) is None:
        raise _Doubt(f"instance {control} is listed but not shown, so that what is not shown proves nothing")
    return control


def _agree(
    look: Callable[[], T], clock: Clock, *, agreements: int, window_s: float, deadline_s: float, claim: str
) -> tuple[T, ...]:
    """Looks in a row that raised no doubt: enough of them, over long enough. Raises NotProven at the deadline."""
    if agreements < 1:
        raise ValueError("at least one look is needed")
    begun = clock.monotonic()
    pause = min(_LONGEST_PAUSE_S, max(_SHORTEST_PAUSE_S, window_s / max(1, agreements - 1)))
    looks: list[T] = []
    since = begun
    doubts: list[str] = []
    while True:
        try:
            found = look()
        except (_Doubt, ProviderUnavailable) as doubt:
            looks.clear()
            if not doubts or doubts[-1] != str(doubt):
                doubts.append(str(doubt))
        else:
            now = clock.monotonic()
            since = since if looks else now
            looks.append(found)
            if len(looks) >= agreements and now - since >= window_s:
                return tuple(looks)
        if clock.monotonic() - begun + pause > deadline_s:
            seen = "; ".join(doubts[-_SHOWN_DOUBTS:]) or "no look failed"
            raise NotProven(
                f"{claim} after {deadline_s:g} s: {len(looks)} of {agreements} looks agree at the end; seen: {seen}"
            )
        clock.sleep(pause)
