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
SHOWN = replace(instance(), id=INSTANCE, ends_at=None)
STOPPED = InstanceStopped(INSTANCE, "the budget is used up")


def _told(
    log: Log, after: float, shown: Instance | None = SHOWN, *, worked_on: bool = False, after_s: float = 2 * HOUR_S
) -> list[str]:
    return [one.told for one in of_job(log.history, shown, log.at + after, worked_on=worked_on, after_s=after_s)]


@pytest.mark.parametrize(
    ("log", "after", "told"),
    [
        (trained(), 601, ("no process here works on it, for 10 min 01 s", "bills $16.00/h", "harness run night")),
        (Log().verified(), 3 * HOUR_S, ("no process here works on it, for 3 h 00 min", "harness destroy night")),
        (trained().add(STOPPED), 2 * HOUR_S, ("stands still for 2 h 00 min", "only its disk bills")),
        (Log().add(RentIntended(LABEL, {}, owner=7)), 601, ("A rent was begun", "harness run night finds it")),
        (
            Log().rented().add(Held(Stage.PROVISION, AmbiguousCreate.__name__, "lost")),
            601,
            (f"Instance {INSTANCE} bills",),
        ),
        (trained().add(Held(Stage.TRAINING, InstanceDead.__name__, "x")), 601, ("last seen dead",)),
        (
            Log().verified().add(DestroyIntended(INSTANCE, "cd" * 32)).add(DestroyRequested(INSTANCE, "accepted")),
            601,
            ("is not proven", "harness destroy night proves the end"),
        ),
    ],
)
def test_what_nobody_looks_after_is_remembered(log: Log, after: float, told: tuple[str, ...]) -> None:
    (said,) = _told(log, after)
    assert said.startswith("job night")
    for words in told:
        assert words in said
    assert _told(log, after, None) == [said], "also where the provider cannot be asked"


@pytest.mark.parametrize(
    ("log", "after"),
    [
        (Log(), 1e6),
        (Log().closed(), 1e6),
        (trained(), 599),
        (trained().add(STOPPED), 2 * HOUR_S - 1),
    ],
)
def test_what_bills_nothing_or_was_just_worked_on_is_left_alone(log: Log, after: float) -> None:
    assert _told(log, after) == []


def test_what_a_process_has_is_looked_after() -> None:
    assert _told(trained(), 1e5, worked_on=True) == []
    assert _told(trained().add(STOPPED), 1e6, worked_on=True) == []


def test_an_instance_that_was_stopped_in_the_console_counts_as_stopped() -> None:
    shown = replace(SHOWN, status=InstanceStatus.STOPPED)
    assert _told(trained(), HOUR_S, shown) == []
    (said,) = _told(trained(), 3 * HOUR_S, shown)
    assert "stands still for 3 h 00 min. The provider shows it as stopped." in said


def test_a_stop_counts_from_the_newest_one() -> None:
    log = trained().add(STOPPED).add(InstanceStarted(INSTANCE), after=9 * HOUR_S).add(STOPPED, after=60)
    assert _told(log, HOUR_S) == []
    log.add(Held(Stage.TRAINING, "GateHeld", "somebody looked"), after=90 * 60)
    (said,) = _told(log, HOUR_S)
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
        {one.key for one in of_job(log.history, SHOWN, log.at + after, worked_on=False, after_s=HOUR_S)}
        for after in (2 * HOUR_S, 50 * HOUR_S)
    ]
    assert keys[0] == keys[1] == {"night stopped"}
