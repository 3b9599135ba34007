"""Money of all jobs together: by the hour, the day and the month; which instance is stopped; what may be rented."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from harness.core.ids import InstanceId, VolumeId
from harness.core.ports import Bill, Instance, InstanceStatus, Volume
from harness.ledger import ownership
from harness.ledger.account import (
    AccountLook,
    AccountSpending,
    Listed,
    Wanted,
    over,
    spending,
    to_stop,
    with_one_more,
)
from harness.ledger.events import Adopted, InstanceStarted, InstanceStopped, RentIntended
from harness.ledger.history import History
from harness.ledger.limits import AccountLimits, Stops
from harness.ledger.ownership import Standing, Whose
from harness.ledger.two_clocks import TwoClocks
from tests.support.fake_clock import FakeClock
from tests.support.job_histories import BEGAN, INSTANCE, LABEL, Log, trained
from tests.support.scripted_world import Market, offer

HOUR_S = 3600.0
NOON = datetime(2027, 3, 15, 12, tzinfo=UTC).timestamp()


def _at(now: float) -> TwoClocks:
    """A moment by clocks that agree."""
    return TwoClocks(now, now)


def _listed(number: int, price: float = 10.0, at: float | None = 0.0, **more: object) -> Instance:
    market = Market(FakeClock())
    market.add(number, f"gsh-j-{number:08x}")
    fields: dict[str, object] = {"usd_per_hour": price, "started_at": at, "disk_usd_per_hour": 0.1, **more}
    market.change(InstanceId(number), **fields)
    return market.rented[InstanceId(number)]


def _look(*instances: Instance, volumes: Sequence[Volume] = (), bills: Sequence[Bill] = ()) -> AccountLook:
    return AccountLook(instances, tuple(volumes), tuple(bills))


@pytest.mark.parametrize(
    ("look", "hour"),
    [
        (_look(), 0.0),
        (_look(_listed(1), _listed(2, 5.0)), 15.0),
        (_look(_listed(1, status=InstanceStatus.STOPPED)), 0.1),
        (_look(_listed(1, status=InstanceStatus.STOPPED, disk_usd_per_hour=None)), 0.0),
        (_look(_listed(1, status=InstanceStatus.LOADING)), 10.0),
        (_look(_listed(1, status=InstanceStatus.UNKNOWN)), 10.0),
        (_look(_listed(1), _listed(2, -50.0)), 10.0),
        (_look(_listed(1), _listed(2, status=InstanceStatus.STOPPED, disk_usd_per_hour=-3.0)), 10.0),
        (_look(_listed(1), volumes=[Volume(VolumeId(1), None, 1, 10.0, -9.0)]), 10.0),
        (_look(volumes=[Volume(VolumeId(1), None, 1, 10.0, 0.5), Volume(VolumeId(2), None, 1, 10.0, None)]), 0.5),
    ],
)
def test_what_bills_by_the_hour_is_what_is_listed_whosever_it_is(look: AccountLook, hour: float) -> None:
    assert spending((), {"there": look}, _at(NOON)).per_hour == pytest.approx(hour)


@pytest.mark.parametrize(
    ("bill", "day", "month"),
    [
        (Bill("instance", 5, None, 6.0, NOON, NOON - 2 * HOUR_S), 6.0, 6.0),
        (Bill("instance", 5, None, 24.0, NOON, NOON - 24 * HOUR_S), 12.0, 24.0),
        (Bill("volume", 5, None, 24.0, NOON - 13 * HOUR_S, NOON - 20 * HOUR_S), 0.0, 24.0),
        (Bill("instance", 5, None, 24.0, NOON - 40 * 24 * HOUR_S, NOON - 41 * 24 * HOUR_S), 0.0, 0.0),
        (Bill("serverless", "x", None, 9.0, NOON, None), 9.0, 9.0),
        (Bill("instance", 5, None, 9.0, NOON, NOON), 9.0, 9.0),
    ],
)
def test_a_bill_counts_for_the_part_of_it_that_is_todays_and_this_months(bill: Bill, day: float, month: float) -> None:
    seen = spending((), {"there": _look(bills=[bill])}, _at(NOON))
    assert seen.per_day == pytest.approx(day)
    assert seen.per_month == pytest.approx(month)


def test_what_was_refunded_of_one_contract_pays_for_no_other() -> None:
    bills = [Bill("instance", number, None, usd, NOON, NOON - HOUR_S) for number, usd in ((5, 90.0), (6, -80.0))]
    assert spending((), {"there": _look(bills=bills)}, _at(NOON)).per_day == pytest.approx(90.0)


@pytest.mark.parametrize(
    ("now", "day", "month"),
    [
        ("2028-02-29T12:00:00", 12.0, 24.0 * 28 + 12),
        ("2028-03-01T00:00:01", 1 / 3600, 1 / 3600),
        ("2026-12-31T23:59:59", 24.0, 24.0 * 31),
        ("2027-01-01T01:00:00", 1.0, 1.0),
        ("2027-03-28T02:30:00", 2.5, 24.0 * 27 + 2.5),
        ("2027-10-31T01:30:00", 1.5, 24.0 * 30 + 1.5),
    ],
    ids=["leap day", "after it", "end of the year", "a new year", "clocks go forward", "clocks go back"],
)
@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Kiritimati"])
def test_days_and_months_are_those_of_utc(
    zone: str, now: str, day: float, month: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dollar an hour since long ago."""
    monkeypatch.setenv("TZ", zone)
    if hasattr(time, "tzset"):
        time.tzset()
    at = datetime.fromisoformat(f"{now}+00:00").timestamp()
    bill = Bill("instance", 5, None, 24.0 * 80, at, at - 24 * 80 * HOUR_S)
    seen = spending((), {"there": _look(bills=[bill])}, _at(at))
    monkeypatch.undo()
    if hasattr(time, "tzset"):
        time.tzset()
    assert seen.per_day == pytest.approx(day, abs=0.01)
    assert seen.per_month == pytest.approx(month, abs=0.01)


def _running(hours: float) -> tuple[History, float]:
    """A job whose instance has run for so long, and the time."""
    history = trained().history
    assert history.rental is not None
    return history, history.rental.at + hours * HOUR_S


@pytest.mark.parametrize(("billed", "spent"), [(None, 15.9), (3.0, 15.9), (20.0, 20.0)])
def test_a_job_has_cost_what_was_charged_and_no_less_than_its_log_reckons(billed: float | None, spent: float) -> None:
    history, now = _running(1.0)
    bills = [] if billed is None else [Bill("instance", INSTANCE, None, billed, now, now - HOUR_S)]
    seen = spending([history], {ownership.place(history.job.provider): _look(bills=bills)}, _at(now))
    assert seen.per_month == pytest.approx(spent, abs=0.3)


def test_an_instance_that_was_taken_over_is_paid_once() -> None:
    log = Log().add(Adopted(INSTANCE, "", 7, 16.0, dataclasses.asdict(offer()), "running", BEGAN))
    now = log.at + HOUR_S
    bill = Bill("instance", INSTANCE, None, 20.0, now, now - HOUR_S)
    looks: dict[object, AccountLook] = {ownership.place(log.job.provider): _look(bills=[bill])}
    assert spending([log.history], looks, _at(now)).per_month == pytest.approx(20.0)


@pytest.mark.parametrize("off", [-400 * HOUR_S, 0.0, 400 * HOUR_S])
def test_a_clock_that_is_wrong_by_days_makes_nothing_dearer(off: float) -> None:
    """The log and the look were written by the same clock; the day is the provider's."""
    history, here = _running(1.0)
    assert spending([history], {}, TwoClocks(here + off, here)).per_month == pytest.approx(16.0, abs=0.3)


def test_a_job_at_a_place_that_was_not_looked_at_counts_by_its_log() -> None:
    history, now = _running(1.0)
    seen = spending([history], {}, _at(now))
    assert seen.per_hour == 16.0
    assert seen.per_month == pytest.approx(16.0, abs=0.3)


@pytest.mark.parametrize(("doubting", "hour"), [(False, 0.0), (True, 15.9)])
def test_a_list_that_lacks_what_a_log_has_alive_is_doubted_before_a_rent(hour: float, *, doubting: bool) -> None:
    history, now = _running(0.1)
    looks: dict[object, AccountLook] = {ownership.place(history.job.provider): _look()}
    assert spending([history], looks, _at(now), doubting=doubting).per_hour == pytest.approx(hour, abs=0.2)
    looks[ownership.place(history.job.provider)] = _look(dataclasses.replace(_listed(1, 15.9), id=INSTANCE))
    assert spending([history], looks, _at(now), doubting=doubting).per_hour == pytest.approx(15.9)


def test_a_rent_without_an_outcome_counts_at_the_most_that_it_may_cost() -> None:
    told = _named("other", Log().add(RentIntended(LABEL, {}, 7)))
    most = told.job.most_usd_per_hour
    limits = AccountLimits(per_hour=most + 0.5)
    held = with_one_more(AccountSpending(0, 0, 0), [told], Wanted(1.0, 1.0), limits, _at(BEGAN), looks={})
    assert len(held) == 1


LIMITS = AccountLimits(per_hour=25.0, per_day=100.0, per_month=1000.0)


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (AccountSpending(25.0, 100.0, 1000.0), []),
        (AccountSpending(25.01, 0.0, 0.0), ["per_hour = 25: $25.01"]),
        (AccountSpending(0.0, 101.0, 1001.0), ["per_day = 100: $101.00", "per_month = 1000: $1001.00"]),
    ],
)
def test_what_is_over_is_named_with_what_is_spent(seen: AccountSpending, told: list[str]) -> None:
    assert [one[: len(start)] for one, start in zip(over(seen, LIMITS), told, strict=True)] == told
    assert over(seen, AccountLimits()) == ()


NEW = _listed(3, at=300.0)
OLD = _listed(1, at=100.0)
MIDDLE = _listed(2, at=200.0)
BOOTING = _listed(4, at=None, status=InstanceStatus.LOADING)
STOPPED = _listed(5, at=500.0, status=InstanceStatus.STOPPED)
FREE = _listed(6, 0.0, at=600.0, disk_usd_per_hour=None)


def _whose(one: Instance, standing: Standing = Standing.OWNED) -> Listed:
    return Listed("there", one, Whose(standing, "somebody's"))


@pytest.mark.parametrize(
    ("listed", "seen", "stopped"),
    [
        ((OLD, MIDDLE, NEW), (25.0, 0, 0), []),
        ((OLD, MIDDLE, NEW), (30.0, 0, 0), [3]),
        ((NEW, OLD, MIDDLE), (36.0, 0, 0), [3, 2]),
        ((OLD, BOOTING, NEW), (30.0, 0, 0), [4]),
        ((OLD, STOPPED, FREE, NEW), (30.0, 0, 0), [3]),
        ((OLD, NEW), (90.0, 0, 0), [3, 1]),
        ((OLD, NEW, STOPPED), (20.0, 100.5, 0), [3, 1]),
        ((OLD, NEW), (20.0, 0, 1000.5), [3, 1]),
        ((OLD, NEW), (20.0, 99.0, 999.0), []),
    ],
)
def test_the_newest_are_stopped_until_the_rest_is_within_the_limits(
    listed: tuple[Instance, ...], seen: tuple[float, float, float], stopped: list[int]
) -> None:
    chosen = to_stop([_whose(one) for one in listed], AccountSpending(*seen), LIMITS)
    assert [one.instance.id for one in chosen] == [InstanceId(number) for number in stopped]


@pytest.mark.parametrize(
    ("stop", "allowed"),
    [
        (Stops.NONE, set()),
        (Stops.OURS, {Standing.OWNED, Standing.FORGOTTEN}),
        (Stops.LABELLED, {Standing.OWNED, Standing.FORGOTTEN, Standing.ORPHAN}),
        (Stops.ALL, {Standing.OWNED, Standing.FORGOTTEN, Standing.ORPHAN, Standing.STRANGER}),
    ],
)
def test_what_may_not_be_stopped_is_counted_and_left_alone(stop: Stops, allowed: set[Standing]) -> None:
    limits = AccountLimits(per_hour=1.0, stop=stop)
    listed = [_whose(_listed(number), standing) for number, standing in enumerate(Standing, start=1)]
    chosen = to_stop(listed, spending((), {"there": _look(*(one.instance for one in listed))}, _at(NOON)), limits)
    assert {one.whose.standing for one in chosen} == allowed


def test_unless_the_file_says_otherwise_only_ours_are_stopped() -> None:
    assert AccountLimits(per_hour=1.0).stop is Stops.OURS


def _named(name: str, log: Log) -> History:
    history = log.history
    return dataclasses.replace(history, job=history.job.model_copy(update={"name": name}))


@pytest.mark.parametrize(
    ("seen", "others", "wanted", "held"),
    [
        ((0, 0, 0), (), (16.0, 20.0), []),
        ((9.5, 0, 0), (), (16.0, 20.0), ["per_hour"]),
        ((9.0, 0, 0), (), (16.0, 20.0), []),
        ((0, 85.0, 85.0), (), (16.0, 20.0), ["per_day"]),
        ((0, 85.0, 985.0), (), (16.0, 20.0), ["per_day", "per_month"]),
        ((0, 0, 981.0), (), (16.0, 20.0), ["per_month"]),
        ((0, 0, 0), (Log().rented(),), (16.0, 90.0), ["per_day"]),
        ((0, 0, 0), (Log().rented(),), (16.0, 80.0), []),
        ((0, 0, 0), (Log().rented().add(InstanceStopped(INSTANCE, "by hand")),), (16.0, 90.0), []),
        ((0, 0, 0), (Log().rented().closed(),), (16.0, 90.0), []),
    ],
)
def test_one_more_may_be_rented_when_all_of_them_can_be_paid_to_their_ends(
    seen: tuple[float, float, float], others: tuple[Log, ...], wanted: tuple[float, float], held: list[str]
) -> None:
    """A job under way is paid to its end, too: 15.9 USD for about an hour."""
    now = datetime.fromtimestamp(BEGAN, UTC).replace(hour=1).timestamp()
    histories = [_named(f"other-{number}", log) for number, log in enumerate(others)]
    told = with_one_more(AccountSpending(*seen), histories, Wanted(*wanted), LIMITS, _at(now), looks={})
    assert [one.split(" ")[0] for one in told] == held


def test_only_what_falls_into_the_day_counts_for_the_day() -> None:
    midnight = datetime(2027, 3, 16, tzinfo=UTC).timestamp()
    seen, wanted, limits = AccountSpending(0, 0, 0), Wanted(10.0, 200.0), AccountLimits(per_day=11.0)
    assert with_one_more(seen, (), wanted, limits, _at(midnight - HOUR_S), looks={}) == ()
    assert with_one_more(seen, (), wanted, limits, _at(midnight + 1), looks={}) != ()


def test_a_rent_without_an_outcome_counts_by_the_hour() -> None:
    log = Log()
    log.add(RentIntended(LABEL, dataclasses.asdict(offer()), 7))
    (told,) = with_one_more(
        AccountSpending(0, 0, 0),
        [log.history],
        Wanted(15.0, 1.0),
        AccountLimits(per_hour=30.0),
        _at(log.history.records[-1].at),
        looks={},
    )
    assert told == "per_hour = 30: $0.00 bill by the hour now, with it that would come to $30.90"


@pytest.mark.parametrize(
    ("status", "after", "again", "hour"),
    [
        (InstanceStatus.STOPPED, 1.0, False, 16.0),
        (InstanceStatus.EXITED, 1200.0, False, 16.0),
        (InstanceStatus.STOPPED, 1201.0, False, 0.1),
        (InstanceStatus.STOPPED, 1.0, True, 0.1),
        (InstanceStatus.RUNNING, 1.0, False, 16.0),
    ],
    ids=["not listed yet", "a slow one", "long ago", "stopped again", "listed"],
)
def test_a_start_that_the_list_does_not_show_yet_counts_by_the_hour(
    status: InstanceStatus, after: float, again: bool, hour: float
) -> None:
    log = Log().rented().add(InstanceStopped(INSTANCE, "by hand")).add(InstanceStarted(INSTANCE), after=3600)
    if again:
        log.add(InstanceStopped(INSTANCE, "not started"), after=0)
    listed = dataclasses.replace(_listed(4711, 16.0), id=INSTANCE, status=status, disk_usd_per_hour=0.1)
    looks: dict[object, AccountLook] = {ownership.place(log.job.provider): _look(listed)}
    now = _at(log.at + after)
    seen, wanted = spending([log.history], looks, now, doubting=True), Wanted(1.0, 1.0)
    (told,) = with_one_more(seen, [log.history], wanted, AccountLimits(per_hour=0.5), now, looks=looks)
    assert told.endswith(f"would come to ${hour + 1.0:.2f}")
