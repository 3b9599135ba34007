"""Everything that bills while nobody looks after it is remembered, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.core.errors import AmbiguousCreate, InstanceDead
from harness.core.lifecycle import Stage
from harness.core.ports import Instance, InstanceStatus
from harness.ledger.events import (
    DestroyIntended,
    DestroyRequested,
    Held,
    InstanceStarted,
    InstanceStopped,
    RentIntended,
)
from harness.notify.forgotten import of_job
from tests.support.facts import instance
from tests.support.job_histories import INSTANCE, LABEL, Log, trained

HOUR_S = 3600.0
SHOWN = replace(instance(), id=INSTANCE, ends_at=None, usd_per_hour=16.0)
STANDING = replace(SHOWN, status=InstanceStatus.STOPPED)
OFFLINE = replace(SHOWN, status=InstanceStatus.OFFLINE)
STOPPED = InstanceStopped(INSTANCE, "the budget is used up")


def _told(
    log: Log,
    after: float,
    shown: Instance | None = SHOWN,
    *,
    listed: bool = True,
    worked_on: bool = False,
    after_s: float = 2 * HOUR_S,
) -> list[str]:
    found = of_job(log.history, shown, log.at + after, listed=listed, worked_on=worked_on, after_s=after_s)
    return [one.told for one in found]


@pytest.mark.parametrize(
    ("log", "after", "shown", "told"),
    [
        (
            trained(),
            601,
            SHOWN,
            ("no process here works on it, for 10 min 01 s", "bills $16.00/h", "harness run night"),
        ),
        (Log().verified(), 3 * HOUR_S, SHOWN, ("no process here works on it, for 3 h 00 min", "harness destroy night")),
        (trained().add(STOPPED), 2 * HOUR_S, STANDING, ("stands still for 2 h 00 min", "only its disk bills")),
        (Log().add(RentIntended(LABEL, {}, owner=7)), 601, None, ("A rent was begun", "harness run night finds it")),
        (
            Log().rented().add(Held(Stage.PROVISION, AmbiguousCreate.__name__, "lost")),
            601,
            SHOWN,
            (f"Instance {INSTANCE} bills",),
        ),
        (trained().add(Held(Stage.TRAINING, InstanceDead.__name__, "x")), 601, OFFLINE, ("last seen dead",)),
        (
            Log().verified().add(DestroyIntended(INSTANCE, "cd" * 32)).add(DestroyRequested(INSTANCE, "accepted")),
            601,
            SHOWN,
            ("is not proven", "harness destroy night proves the end"),
        ),
    ],
)
def test_what_nobody_looks_after_is_remembered(
    log: Log, after: float, shown: Instance | None, told: tuple[str, ...]
) -> None:
    (said,) = _told(log, after, shown)
    assert said.startswith("job night")
    for words in told:
        assert words in said
    assert _told(log, after, None, listed=False) == [said], "also where the provider cannot be asked"


@pytest.mark.parametrize(
    ("log", "after", "shown"),
    [
        (Log(), 1e6, None),
        (Log().closed(), 1e6, None),
        (trained(), 599, SHOWN),
        (trained(), 599, None),
        (trained().add(STOPPED), 2 * HOUR_S - 1, STANDING),
    ],
)
def test_what_bills_nothing_or_was_just_worked_on_is_left_alone(log: Log, after: float, shown: Instance | None) -> None:
    assert _told(log, after, shown) == []


def test_an_instance_that_runs_although_it_was_stopped_is_told_at_once_with_its_price() -> None:
    (said,) = _told(trained().add(STOPPED), 1)
    assert said.startswith("job night: its instance was stopped, and the provider shows it as running. ")
    assert f"Instance {INSTANCE} bills $16.00/h. harness run night" in said
    assert "disk" not in said
    assert _told(trained().add(STOPPED), 1, worked_on=True) == [], "it is just being started"


@pytest.mark.parametrize("log", [trained(), trained().add(STOPPED), Log().verified()])
def test_an_instance_that_is_not_in_the_complete_list_is_told_with_no_price(log: Log) -> None:
    (said,) = _told(log, 601, None)
    assert f"Instance {INSTANCE} is not in the provider's list: whether it bills" in said
    assert "$" not in said
    assert "disk" not in said


def test_what_a_process_has_is_looked_after() -> None:
    assert _told(trained(), 1e5, worked_on=True) == []
    assert _told(trained().add(STOPPED), 1e6, worked_on=True) == []


def test_an_instance_that_was_stopped_in_the_console_counts_as_stopped() -> None:
    assert _told(trained(), HOUR_S, STANDING) == []
    (said,) = _told(trained(), 3 * HOUR_S, STANDING)
    assert "stands still for 3 h 00 min. The provider shows it as stopped." in said
    assert "only its disk bills" in said
    assert "$16.00/h" not in said


def test_a_stop_counts_from_the_newest_one() -> None:
    log = trained().add(STOPPED).add(InstanceStarted(INSTANCE), after=9 * HOUR_S).add(STOPPED, after=60)
    assert _told(log, HOUR_S, STANDING) == []
    log.add(Held(Stage.TRAINING, "GateHeld", "somebody looked"), after=90 * 60)
    (said,) = _told(log, HOUR_S, STANDING)
    assert "stands still for 2 h 30 min" in said


@pytest.mark.parametrize(
    ("left", "worked_on", "told"),
    [
        (HOUR_S, True, "ends in 1 h 00 min"),
        (-60.0, True, "has ended"),
        (20 * HOUR_S, True, None),
        (20 * HOUR_S, False, "ends in 20 h 00 min"),
        (25 * HOUR_S, False, None),
    ],
)
def test_a_rental_that_ends_early_is_said(left: float, worked_on: bool, told: str | None) -> None:
    """The whole plan of this job takes 65 minutes."""
    log = trained()
    said = _told(log, 60, replace(SHOWN, ends_at=log.at + 60 + left), worked_on=worked_on)
    assert len(said) == (told is not None)
    for line in said:
        assert f"the rental of instance {INSTANCE} {told}; what is on its disk goes with it" in line


def test_the_same_thing_keeps_its_key_as_time_goes_on() -> None:
    log = trained().add(STOPPED)
    keys = [
        {one.key for one in of_job(log.history, STANDING, log.at + after, listed=True, worked_on=False, after_s=HOUR_S)}
        for after in (2 * HOUR_S, 50 * HOUR_S)
    ]
    assert keys[0] == keys[1] == {"night stopped"}
