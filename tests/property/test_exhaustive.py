"""A whole job is struck at its effects, and goes on; what is broken in it by hand is seen.

The fast test strikes a part of all points, another one for people than for CI; the slow ones strike more. Every one is
for ``tox -e exhaustive``.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.lifecycle import Stage
from tests.support.any_life import AnyLife
from tests.support.exhaustive import FAILURES, FAULTS, Fault, Tally, lives, prove
from tests.support.fault_port import How

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="open files are found again by /proc")

Record = Callable[[str, object], None]


def _first(stride: int) -> int:
    return 1 if os.environ.get("CI") else random.randint(1, stride)


def _sound(tally: Tally, record: Record, least: int) -> None:
    record("points", str(tally))
    sys.stdout.write(f"{tally}\n")
    assert tally.effects > 350, "the job has fewer effects than it had"
    assert len(tally.points) >= least
    assert not tally.broken, "\n".join(tally.broken)


def test_struck_at_some_of_its_effects_a_job_ends_well(tmp_path: Path, record_property: Record) -> None:
    _sound(prove(tmp_path, (*FAULTS, *FAILURES), first=_first(7), stride=7), record_property, 50)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault[0])
def test_killed_or_unanswered_at_every_tenth_effect(fault: Fault, tmp_path: Path, record_property: Record) -> None:
    _sound(prove(tmp_path, [fault], first=_first(10), stride=10), record_property, 30)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAILURES, ids=lambda fault: f"{fault[0]}, {fault[1]}")
def test_a_power_failure_at_every_twentieth_effect(fault: Fault, tmp_path: Path, record_property: Record) -> None:
    _sound(prove(tmp_path, [fault], first=_first(20), stride=20), record_property, 15)


def test_any_short_life() -> None:
    lives(25, steps=10)


@pytest.mark.slow
def test_any_life() -> None:
    lives(60, steps=15)


def test_killed_at_the_create_and_shown_an_empty_list_it_rents_no_second_machine() -> None:
    for effect in range(40, 100):  # the first that rents is the create
        life = AnyLife()
        life.begins()
        life.is_struck(0, effect, How.AFTER)
        if life.market.rented:
            break
        life.teardown()
    assert life.market.rented
    assert life.world.history.rental is None
    life.lists_nothing(1)
    life.runs(1, None)
    life.one_at_most_bills_and_none_is_unknown()
    life.teardown()


def test_an_instance_with_its_model_is_abandoned_for_no_less_than_the_sentence() -> None:
    life = AnyLife()
    life.begins()
    life.runs(0, Stage.TRAINING)
    life.abandons(1, accepts=False, at=None, how=How.BEFORE)
    assert life.market.rented
    life.teardown()


def test_a_model_goes_with_its_instance_only_behind_the_record_that_its_loss_is_accepted() -> None:
    life = AnyLife()
    life.begins()
    life.runs(0, Stage.TRAINING)
    assert life.world.box.artifact.exists()
    life.abandons(1, accepts=True, at=None, how=How.BEFORE)  # the market refuses what is not recorded
    assert not life.market.rented
    life.teardown()


def test_a_bill_that_comes_late_is_waited_for() -> None:
    life = AnyLife()
    life.begins()
    life.runs(0, Stage.POSTDOWNLOAD)
    life.time_passes(900.0)  # it was billed for longer than the proof looks
    life.bill_is_late(300.0)
    life.runs(0, None)
    assert life.closed
    life.recorded_is_what_was_charged()
    life.teardown()


def test_of_two_processes_that_have_read_the_same_log_one_ends_the_instance() -> None:
    life = AnyLife()
    life.begins()
    life.runs(0, Stage.POSTDOWNLOAD)
    life.opens(0)
    life.runs(1, None)
    assert life.closed
    life.destroys(0, at=None, how=How.BEFORE)
    life.recorded_is_what_was_charged()
    life.teardown()
