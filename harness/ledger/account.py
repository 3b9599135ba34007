"""Money of all jobs and of everything else in their accounts, held against what the operator allows. Pure.

By the hour it is what is listed and bills now. By the day and the month it is what the provider has charged, and no
less than the ledger reckons: charges come late.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from harness.core.money import usd, within
from harness.core.ports import Bill, Instance, InstanceStatus, Volume
from harness.ledger import ownership
from harness.ledger.billing import paid_spans, usd_within
from harness.ledger.bills import bills
from harness.ledger.events import Adopted, InstanceStarted, Rented
from harness.ledger.history import History
from harness.ledger.limits import AccountLimits, Stops
from harness.ledger.outlook import outlook
from harness.ledger.ownership import Standing, Whose
from harness.ledger.two_clocks import TwoClocks

_VERB = {"per_hour": "bill by the hour now", "per_day": "are spent today", "per_month": "are spent this month"}
_STANDS = frozenset({InstanceStatus.STOPPED, InstanceStatus.EXITED})
_MAY_STOP: Mapping[Stops, frozenset[Standing]] = {
    Stops.NONE: frozenset(),
    Stops.OURS: frozenset({Standing.OWNED, Standing.FORGOTTEN}),
    Stops.LABELLED: frozenset({Standing.OWNED, Standing.FORGOTTEN, Standing.ORPHAN}),
    Stops.ALL: frozenset(Standing),
}


@dataclass(frozen=True, slots=True)
class AccountLook:
    """One provider's account, seen whole."""

    instances: tuple[Instance, ...]
    volumes: tuple[Volume, ...]
    bills: tuple[Bill, ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """An instance of a provider's list, with its owner; ``place`` is the provider's."""

    place: object
    instance: Instance
    whose: Whose

    @property
    def saves(self) -> float:
        """USD an hour that a stop ends: the disk goes on. 0 for what stands still."""
        return max(0.0, _now(self.instance) - (self.instance.disk_usd_per_hour or 0.0))


@dataclass(frozen=True, slots=True)
class AccountSpending:
    """USD: what bills by the hour now, and what was spent since the day and the month began."""

    per_hour: float
    per_day: float
    per_month: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """Something that is to bill: its price by the hour, and what it will have cost at its end (USD)."""

    usd_per_hour: float
    usd: float

    def until(self, end: float, now: float) -> float:
        """Cost until a time, at most (USD)."""
        return min(self.usd, usd(end - now, self.usd_per_hour))


def over(seen: AccountSpending, limits: AccountLimits) -> tuple[str, ...]:
    """Each limit that is exceeded, in words, by its name in the file first."""
    told = _against(seen, limits)
    return tuple(f"{name} = {limit:g}: ${spent:.2f} {_VERB[name]}" for name, spent, limit in told if spent > limit)


def spending(
    histories: Sequence[History], looks: Mapping[object, AccountLook], now: TwoClocks, *, doubting: bool = False
) -> AccountSpending:
    """Money of all these jobs, and of the accounts that were looked at, by the place of each (``ownership.place``).

    A job at a place that was not looked at counts by its log alone; ``doubting``: so does one whose instance is alive
    by its log and is not in the list.
    """
    day, month, _, _ = _calendar(now.provider)
    hour = [bills(one).usd_per_hour or 0.0 for one in histories if _is_unseen(one, looks, doubting=doubting)]
    for look in looks.values():
        hour += [_now(one) for one in look.instances]
        hour += [max(0.0, one.usd_per_hour or 0.0) for one in look.volumes]
    return AccountSpending(math.fsum(hour), _since(histories, looks, day, now), _since(histories, looks, month, now))


def _is_unseen(history: History, looks: Mapping[object, AccountLook], *, doubting: bool) -> bool:
    """True for a job whose instance lives, and that no list tells of."""
    if history.alive is None:
        return False
    look = looks.get(ownership.place(history.job.provider))
    return look is None or (doubting and history.alive.instance_id not in {one.id for one in look.instances})


def with_one_more(
    seen: AccountSpending,
    others: Sequence[History],
    wanted: Wanted,
    limits: AccountLimits,
    now: TwoClocks,
    *,
    looks: Mapping[object, AccountLook],
) -> tuple[str, ...]:
    """The limits that would be exceeded with one more instance, in words; empty when it may be rented.

    ``others``: the other jobs. One that is under way will go on to its end, and what one has asked for may be listed in
    a moment: both count, so that of two jobs that ask at once no more are let through than both can pay.
    """
    _, _, day_ends, month_ends = _calendar(now.provider)
    going = [_going_on(one, now.here) for one in others if bills(one).may_bill and not one.instance_stopped]
    asked_for = math.fsum(_asked_for(one, looks, now.here) for one in others)
    would = AccountSpending(
        seen.per_hour + asked_for + wanted.usd_per_hour,
        seen.per_day + math.fsum(one.until(day_ends, now.provider) for one in (*going, wanted)),
        seen.per_month + math.fsum(one.until(month_ends, now.provider) for one in (*going, wanted)),
    )
    return tuple(
        f"{name} = {limit:g}: ${spent:.2f} {_VERB[name]}, with it that would come to ${value:.2f}"
        for (name, value, limit), (_, spent, _) in zip(_against(would, limits), _against(seen, limits), strict=True)
        if value > limit
    )


def to_stop(listed: Iterable[Listed], seen: AccountSpending, limits: AccountLimits) -> tuple[Listed, ...]:
    """The instances to stop: the newest first, until what goes on is within ``per_hour``; see docs/money.md.

    All of them where a day or a month is used up, for nothing else ends that. Only what ``limits.stop`` allows: the
    rest is counted and left alone.
    """
    allowed = _MAY_STOP[limits.stop]
    running = [one for one in listed if one.whose.standing in allowed and one.saves > 0]
    newest = sorted(running, key=lambda one: (-_begun(one.instance), str(one.instance.id)))
    if any(spent > limit for name, spent, limit in _against(seen, limits) if name != "per_hour"):
        return tuple(newest)
    excess = 0.0 if limits.per_hour is None else seen.per_hour - limits.per_hour
    chosen: list[Listed] = []
    for one in newest:
        if excess <= 0:
            break
        chosen.append(one)
        excess -= one.saves
    return tuple(chosen)


def _begun(one: Instance) -> float:
    """Time at which an instance began; one that has not started yet is the newest."""
    return math.inf if one.started_at is None else one.started_at


def _against(seen: AccountSpending, limits: AccountLimits) -> Iterator[tuple[str, float, float]]:
    """Each limit that is stated: its name, what is held against it, and how much it allows (USD)."""
    for name in _VERB:
        limit = getattr(limits, name)
        if limit is not None:
            yield name, getattr(seen, name), limit


def _now(one: Instance) -> float:
    """USD an hour that an instance bills as it is listed; a state that tells nothing of money counts as running.

    What is listed at less than nothing makes nothing else cheaper.
    """
    return max(0.0, (one.disk_usd_per_hour or 0.0) if one.status in _STANDS else one.usd_per_hour)


def _price(history: History) -> float:
    """USD an hour of a job that bills: the most that it may cost where its log tells no price."""
    return bills(history).usd_per_hour or history.job.most_usd_per_hour


def _asked_for(history: History, looks: Mapping[object, AccountLook], now: float) -> float:
    """USD an hour that no list tells yet: of a rent without an outcome, and of a start of just now."""
    if history.unresolved is not None:
        return _price(history)
    started = [record.at for record in history.records if record.kind == InstanceStarted.kind]
    if history.alive is None or history.instance_stopped or not started:
        return 0.0
    look, number = looks.get(ownership.place(history.job.provider)), history.alive.instance_id
    listed = [one for one in (look.instances if look else ()) if one.id == number]
    just_now = abs(now - started[-1]) <= history.job.machine.ready_timeout_s
    return max(0.0, _price(history) - _now(listed[0])) if listed and just_now else 0.0


def _going_on(history: History, now: float) -> Wanted:
    ahead = outlook(history, now)
    return Wanted(_price(history), ahead.projected - ahead.spent)


def _since(histories: Sequence[History], looks: Mapping[object, AccountLook], start: float, now: TwoClocks) -> float:
    """USD spent since a time: by the bills, each job's no less than its log reckons; by the log where no bill is."""
    total = 0.0
    for place in {*looks, *(ownership.place(one.job.provider) for one in histories)}:
        charged: dict[tuple[str, object], float] = {}
        for bill in looks[place].bills if place in looks else ():
            key = (bill.kind, bill.id)
            charged[key] = charged.get(key, 0.0) + within(bill.usd, bill.since, bill.until, start)
        for history in histories:
            if ownership.place(history.job.provider) == place:
                had = {one.instance_id for one in history.all(Rented)} | {
                    one.instance_id for one in history.all(Adopted)
                }
                billed = math.fsum(charged.pop(("instance", one), 0.0) for one in had)
                total += max(billed, usd_within(paid_spans(history.records, now.here), now.of_a_log(start), now.here))
        total += math.fsum(max(0.0, one) for one in charged.values())  # what was refunded pays for nothing else
    return total


def _calendar(now: float) -> tuple[float, float, float, float]:
    """Beginning of the day and of the month of a time, and the end of both (epoch seconds, UTC)."""
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    month = day.replace(day=1)
    next_month = (month + timedelta(days=32)).replace(day=1)
    return day.timestamp(), month.timestamp(), (day + timedelta(days=1)).timestamp(), next_month.timestamp()
