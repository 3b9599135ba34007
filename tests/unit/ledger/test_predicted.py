"""Predicted against taken: of the offer that was rented, of what went through, and of nothing that was not foretold."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from harness.core.ids import InstanceId, OfferId
from harness.core.lifecycle import Stage
from harness.ledger import predicted
from harness.ledger.events import (
    Held,
    Launched,
    PlanAgreed,
    PlanRefused,
    Relaunched,
    Rented,
    RentIntended,
    Resumes,
    Trained,
)
from harness.ledger.kinds import JobEvent
from harness.ledger.noted import AtWork
from harness.runner import renting
from tests.support.job_histories import LABEL, Log
from tests.support.scripted_world import offer

FAST = dataclasses.replace(offer(501), inet_down_mbps=6000.0)
SLOW = dataclasses.replace(offer(502), inet_down_mbps=100.0)
"""At 100 Mb/s the base model alone takes 1,218 seconds."""


def rented(log: Log, one: Any = FAST) -> Log:
    """The plan agreed to, and one of its offers rented."""
    log.add(renting.plan(log.job, [FAST, SLOW], (), None).agreed("--yes"))
    log.add(RentIntended(LABEL, dataclasses.asdict(one), 7))
    return log.add(Rented(InstanceId(1), LABEL, dataclasses.asdict(one), 15.9, 7))


def ran(log: Log, *between: JobEvent, seen: bool = True) -> Log:
    """To the end of the training: 400 s of setup, 100 of loading, 1,500 of steps, 400 of export."""
    log.add(Launched(("train",), "launch"), after=400)
    began = log.at
    if seen:
        log.add(AtWork("sft"), after=100).add(AtWork("export"), after=1500)
    for event in between:
        log.add(event)
    return log.add(Trained(began + 2000), after=began + 2000 - log.at)


def told(log: Log) -> dict[str, tuple[float, float]]:
    return {one.name: (round(one.predicted), round(one.took)) for one in predicted.compared(log.history)}


@pytest.mark.parametrize(
    "forecast",
    [
        {},
        {"parts": None},
        {"parts": "training"},
        {"parts": [{"seconds": 1.0}]},
        {"parts": [{"name": "training", "seconds": None, "source": "x"}]},
        {"parts": [{"name": "training", "seconds": "60", "source": "x"}]},
        {"parts": ["training"]},
    ],
)
def test_a_forecast_that_another_version_wrote_otherwise_foretells_nothing(forecast: dict[str, Any]) -> None:
    log = Log()
    shown = dataclasses.asdict(FAST)
    log.add(PlanAgreed("--yes", (shown,), 10.0, 20.0, (forecast,)))
    log.add(RentIntended(LABEL, shown, 7)).add(Rented(InstanceId(1), LABEL, shown, 15.9, 7))
    assert {name: foretold for name, (foretold, _) in told(ran(log)).items()}.pop("setup") == 0
    assert predicted.errors([log.history])


def test_every_part_stands_beside_what_it_took() -> None:
    log = ran(rented(Log()))
    assert told(log) == {
        "setup": (600, 400),
        "loading": (180, 100),
        "training": (1932, 1500),
        "export": (300, 400),
        "in all": (3012, 2400),
    }
    *_, whole = predicted.compared(log.history)
    assert whole.error == pytest.approx(3012 / 2400 - 1)
    assert {one.source for one in predicted.compared(log.history)} == {"profile", "all of these"}


def test_parts_of_the_training_that_were_not_seen_apart_are_one() -> None:
    assert told(ran(rented(Log()), seen=False)) == {
        "setup": (600, 400),
        "loading, training and export": (2412, 2000),
        "in all": (3012, 2400),
    }


def test_the_offer_that_was_rented_counts_and_not_the_first() -> None:
    assert told(ran(rented(Log(), SLOW)))["setup"] == (1218, 400)


@pytest.mark.parametrize("event", [Held(Stage.TRAINING, "GateHeld", "why"), Relaunched(("train",), "it died")])
def test_a_part_that_was_broken_off_stands_beside_nothing(event: JobEvent) -> None:
    assert set(told(ran(rented(Log()), event))) == {"setup", "in all"}


def test_a_training_that_went_on_from_a_checkpoint_is_not_compared() -> None:
    assert told(ran(rented(Log()).add(Resumes({"sft": 100}, {})))) == {}


def test_what_was_foretold_last_before_the_rental_counts() -> None:
    log = Log().add(renting.plan(Log().job, [FAST], (), None).agreed("--yes")).add(PlanRefused(1.0))
    assert told(ran(rented(log, SLOW)))["setup"] == (1218, 400)


def test_what_nobody_foretold_is_not_compared() -> None:
    """A log of before, and an offer that no plan showed."""
    for log in (Log(), Log().add(dataclasses.replace(_agreed(), forecasts=()))):
        strange = dataclasses.asdict(dataclasses.replace(FAST, id=OfferId(9)))
        assert told(ran(log.add(Rented(InstanceId(1), LABEL, strange, 15.9, 7)))) == {}
    assert told(ran(rented(Log(), dataclasses.replace(FAST, id=OfferId(9))))) == {}
    assert told(rented(Log())) == {}, "nothing went through yet"


def test_nothing_foretold_and_half_a_minute_taken_is_an_error_all_the_same() -> None:
    assert predicted.ForetoldPart("giving back", 0.0, 30.0).error == 1
    assert predicted.ForetoldPart("export", 2.0, 0.0).error == 4, "nothing taken counts as half a second"


def _agreed() -> Any:
    return renting.plan(Log().job, [FAST], (), None).agreed("--yes")
