"""Events that are worth a notice, and what the notice says: that something bills, and the command that ends it."""

from __future__ import annotations

import pytest

from harness.core.lifecycle import Stage
from harness.ledger.events import BudgetNear, Closed, Held, InstanceStopped, StageEntered, Verified
from harness.ledger.kinds import JobEvent
from harness.notify.occasions import ended, notice
from harness.notify.targets import Occasion
from tests.support.job_histories import DIGEST, INSTANCE, LOCAL, SIZE, Log, job, trained

HELD = Held(Stage.TRAINING, "GateHeld", "stage training is held: loss_is_sane (nan)")
VERIFIED = Verified(LOCAL, SIZE, DIGEST)


@pytest.mark.parametrize(
    ("log", "event", "occasion", "told"),
    [
        (
            trained(),
            HELD,
            Occasion.HELD,
            ("loss_is_sane (nan)", f"Instance {INSTANCE} bills $16.00/h", "harness"),
        ),
        (
            trained().add(InstanceStopped(INSTANCE, "budget")),
            HELD,
            Occasion.HELD,
            ("only its disk bills", "harness run night"),
        ),
        (Log(), Held(Stage.PREFLIGHT, "GateHeld", "smoke_run_passes"), Occasion.HELD, ("smoke_run_passes",)),
        (
            trained(),
            BudgetNear(16.0, 20.0),
            Occasion.CAP_NEAR,
            ("$16.00 of the budget of $20.00", "bills $16.00/h"),
        ),
        (Log().verified(), VERIFIED, Occasion.READY, (LOCAL, "8.10 GB", DIGEST, "harness destroy night")),
        (Log().closed(), Closed(), Occasion.CLOSED, (LOCAL, "proven to be gone")),
    ],
)
def test_what_is_worth_a_notice(log: Log, event: JobEvent, occasion: Occasion, told: tuple[str, ...]) -> None:
    found = notice(event, log.history, agreed=False)
    assert found is not None
    assert found.occasion is occasion
    assert "night" in found.title
    for words in told:
        assert words in found.body


def test_a_job_that_holds_before_it_rents_bills_nothing_in_its_notice() -> None:
    found = notice(Held(Stage.PREFLIGHT, "GateHeld", "x"), Log().history, agreed=False)
    assert found is not None
    assert "$" not in found.body


def test_nobody_is_asked_for_a_word_that_was_given() -> None:
    assert notice(VERIFIED, Log().verified().history, agreed=True) is None
    assert notice(StageEntered(Stage.UPLOAD), Log().history, agreed=False) is None


def test_a_reason_as_long_as_a_book_is_cut() -> None:
    found = notice(Held(Stage.UPLOAD, "GateHeld", "x" * 9999), trained().history, agreed=False)
    assert found is not None
    assert len(found.body) < 1500


def test_embedded_money_is_called_embedded() -> None:
    found = notice(HELD, trained(job(provider={"kind": "emulated"})).history, agreed=False)
    assert found is not None
    assert "$16.00/h (embedded: no real money)" in found.body


def test_the_end_of_the_command_is_told_with_what_goes_on_billing() -> None:
    found = ended(trained().history, "SIGTERM")
    assert found.occasion is Occasion.ENDED
    assert "ended by SIGTERM" in found.body
    assert "harness run night goes on" in found.body
    assert "bills $16.00/h" in found.body
