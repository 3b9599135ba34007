"""What a job bills now, by its log: the state, the price, and the command that ends it, in every state there is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.core.errors import AmbiguousCreate, GateHeld, GateUnknown, HostUnreachable, InstanceDead
from harness.core.ids import InstanceId
from harness.core.lifecycle import Stage
from harness.core.ports import InstanceStatus
from harness.ledger.bills import Billing, as_listed, bills, next_command, sentence, unaccounted
from harness.ledger.events import (
    Abandoned,
    Adopted,
    Destroyed,
    DestroyIntended,
    DestroyRequested,
    Held,
    InstanceStarted,
    InstanceStopped,
    Launched,
    Rented,
    RentFailed,
    RentIntended,
    StageEntered,
)
from harness.ledger.kinds import JobEvent
from tests.support.facts import instance
from tests.support.job_histories import INSTANCE, LABEL, Log, job

OFFER: dict[str, Any] = {"num_gpus": 8, "gpu_name": "H100 SXM", "machine_id": 1234, "usd_per_hour": 15.95}
DISK = {**OFFER, "disk_usd_per_hour": 0.0308}
LAUNCHED = Launched(command=("python3", "train.py"), why="the first time")
STOPPED = InstanceStopped(INSTANCE, "the budget is reached")
RUN, DESTROY, ABANDON = "harness run night", "harness destroy night", "harness abandon night"


def rented(*after: JobEvent, offer: dict[str, Any] = OFFER) -> Log:
    """A job with an instance, and what happened to it."""
    log = Log().add(RentIntended(LABEL, offer, 77)).add(Rented(INSTANCE, LABEL, offer, 15.95, 77))
    for event in after:
        log.add(event)
    return log


def adopted(*after: JobEvent) -> Log:
    """A job that took an instance over."""
    log = Log(job().model_copy(update={"adopted": True}))
    log.add(Adopted(INSTANCE, "", 77, 15.95, OFFER, "running"))
    for event in after:
        log.add(event)
    return log


def held(error: type[Exception]) -> Held:
    return Held(Stage.TRAINING, error.__name__, "why")


DOUBTED = Log().add(Held(Stage.PROVISION, AmbiguousCreate.__name__, "the reply was lost"))
FOR_NOTHING = DestroyIntended(INSTANCE, None)
BEHIND_A_RELEASE = DestroyIntended(INSTANCE, "cd" * 32)

CASES: dict[str, tuple[Log, Billing, float | None, str | None, str | None]] = {
    "nothing was rented": (Log(), Billing.NOTHING, None, None, None),
    "a rent whose reply never came": (Log().add(RentIntended(LABEL, OFFER, 77)), Billing.RENTING, 15.95, RUN, None),
    "a rent that failed": (
        Log().add(RentIntended(LABEL, OFFER, 77)).add(RentFailed(LABEL, "gone")),
        Billing.NOTHING,
        None,
        None,
        None,
    ),
    "held because something may be there": (DOUBTED, Billing.UNKNOWN, None, "harness orphans night", None),
    "rented, and nothing on it yet": (rented(), Billing.RUNNING, 15.95, ABANDON, None),
    "training": (rented(LAUNCHED), Billing.RUNNING, 15.95, RUN, ABANDON),
    "held while training": (rented(LAUNCHED, held(GateHeld)), Billing.RUNNING, 15.95, RUN, ABANDON),
    "the file is home": (Log().verified(), Billing.RUNNING, None, DESTROY, None),
    "stopped, the disk's price told": (rented(LAUNCHED, STOPPED, offer=DISK), Billing.STOPPED, 0.0308, RUN, ABANDON),
    "stopped, the disk's price not told": (rented(LAUNCHED, STOPPED), Billing.STOPPED, None, RUN, ABANDON),
    "stopped, the disk's price told oddly": (
        rented(STOPPED, offer={**OFFER, "disk_usd_per_hour": "cheap"}),
        Billing.STOPPED,
        None,
        ABANDON,
        None,
    ),
    "started again": (rented(LAUNCHED, STOPPED, InstanceStarted(INSTANCE)), Billing.RUNNING, 15.95, RUN, ABANDON),
    "last seen dead": (rented(LAUNCHED, held(InstanceDead)), Billing.UNKNOWN, None, RUN, ABANDON),
    "last seen dead, and stopped": (rented(LAUNCHED, STOPPED, held(InstanceDead)), Billing.UNKNOWN, None, RUN, ABANDON),
    "dead before anything was launched": (rented(held(InstanceDead)), Billing.UNKNOWN, None, ABANDON, None),
    "dead, and the file is home": (Log().verified().add(held(InstanceDead)), Billing.UNKNOWN, None, DESTROY, None),
    "given up, not asked yet": (rented(FOR_NOTHING), Billing.ENDING, 15.95, ABANDON, None),
    "given up, and asked": (
        rented(LAUNCHED, FOR_NOTHING, DestroyRequested(INSTANCE, "accepted")),
        Billing.ENDING,
        15.95,
        ABANDON,
        None,
    ),
    "given up while it was stopped": (rented(STOPPED, FOR_NOTHING, offer=DISK), Billing.ENDING, 0.0308, ABANDON, None),
    "asked to go behind its release": (
        Log().verified().add(BEHIND_A_RELEASE).add(DestroyRequested(INSTANCE, "accepted")),
        Billing.ENDING,
        None,
        DESTROY,
        None,
    ),
    "gone, its bill not seen to end": (
        Log().verified().add(BEHIND_A_RELEASE).add(Destroyed(INSTANCE, {})),
        Billing.GONE,
        None,
        DESTROY,
        None,
    ),
    "gone": (Log().verified().add(Destroyed(INSTANCE, {}, {})), Billing.NOTHING, None, None, None),
    "closed": (Log().closed(), Billing.NOTHING, None, None, None),
    "abandoned": (rented(LAUNCHED, Abandoned(INSTANCE, {}, {})), Billing.NOTHING, None, None, None),
    "adopted": (adopted(), Billing.RUNNING, 15.95, DESTROY, None),
    "adopted, and last seen dead": (adopted(held(InstanceDead)), Billing.UNKNOWN, None, DESTROY, None),
}
"""Log; then the state, the price (None for one that the log's own offer tells), the command, and the one at once."""


@pytest.mark.parametrize("name", CASES)
def test_what_bills_is_told_from_the_log(name: str) -> None:
    log, state, price, command, at_once = CASES[name]
    history = log.history
    found = bills(history)
    assert (found.state, found.command, found.at_once) == (state, command, at_once)
    if state in {Billing.RUNNING, Billing.ENDING} and price is None:
        price = history.rental.usd_per_hour if history.rental else None
    assert found.usd_per_hour == price
    assert found.may_bill is (state is not Billing.NOTHING)
    assert found.instance_id == (history.rental.instance_id if history.rental else None)
    told = sentence(found)
    assert command is None or command in told
    assert at_once is None or at_once in told
    assert "None" not in told


def test_a_stopped_instance_is_never_said_to_bill_its_price_by_the_hour() -> None:
    for offer, price in ((OFFER, "the provider's storage price"), (DISK, "$0.0308/h")):
        told = sentence(bills(rented(LAUNCHED, STOPPED, offer=offer).history))
        assert f"only its disk bills, at {price}." in told
        assert "15.95" not in told


def test_a_dead_instance_with_a_training_on_it_is_gone_on_with_and_given_up_only_by_its_own_word() -> None:
    log = rented(LAUNCHED, held(InstanceDead))
    told = sentence(bills(log.history))
    assert told.endswith(
        "harness run night goes on once it answers again; harness abandon night gives it up, and says first what would "
        "be lost."
    )
    assert next_command(log.history, bills(log.history)) == RUN


@pytest.mark.parametrize("error", [GateHeld, GateUnknown])
@pytest.mark.parametrize("stopped", [True, False])
def test_a_job_that_a_limit_or_gate_holds_is_not_said_to_go_on_by_itself(
    error: type[Exception], *, stopped: bool
) -> None:
    reason = "$16.01 are spent,\nthe budget is $16.00"
    log = rented(LAUNCHED, *([STOPPED] if stopped else []), Held(Stage.TRAINING, error.__name__, reason), offer=DISK)
    bills_now = "is stopped: only its disk bills, at $0.0308/h." if stopped else "bills $15.95/h."
    way = (
        "harness run night goes on once that is mended; harness abandon night ends it at once, and says first what "
        "would be lost."
    )
    found = bills(log.history)
    assert sentence(found) == f"Instance 4711 {bills_now} Held: $16.01 are spent, the budget is $16.00. {way}"
    assert sentence(found, why=False) == f"Instance 4711 {bills_now} {way}"


def test_what_is_mended_or_was_no_gate_holds_nothing() -> None:
    for log in (
        rented(LAUNCHED, STOPPED, held(GateHeld), StageEntered(Stage.TRAINING)),
        rented(LAUNCHED, STOPPED, held(HostUnreachable)),
    ):
        assert "harness run night goes on to the verified file and ends it" in sentence(bills(log.history))


def test_the_reason_of_many_checks_is_cut() -> None:
    log = rented(LAUNCHED, Held(Stage.TRAINING, "GateHeld", "a check failed; " * 99))
    assert len(sentence(bills(log.history))) < 600


LISTED = replace(instance(), id=INSTANCE, usd_per_hour=16.5, disk_usd_per_hour=0.02)


@pytest.mark.parametrize(
    ("name", "status", "state", "price"),
    [
        ("stopped, the disk's price told", InstanceStatus.RUNNING, Billing.RUNNING, 16.5),
        ("stopped, the disk's price told", InstanceStatus.LOADING, Billing.RUNNING, 16.5),
        ("stopped, the disk's price told", InstanceStatus.STOPPED, Billing.STOPPED, 0.0308),
        ("stopped, the disk's price told", InstanceStatus.OFFLINE, Billing.STOPPED, 0.0308),
        ("stopped, the disk's price told", InstanceStatus.UNKNOWN, Billing.STOPPED, 0.0308),
        ("stopped, the disk's price told", None, Billing.UNKNOWN, None),
        ("training", InstanceStatus.RUNNING, Billing.RUNNING, 16.5),
        ("training", InstanceStatus.EXITED, Billing.STOPPED, 0.02),
        ("training", InstanceStatus.OFFLINE, Billing.UNKNOWN, None),
        ("training", InstanceStatus.UNKNOWN, Billing.RUNNING, 15.95),
        ("training", None, Billing.UNKNOWN, None),
        ("last seen dead", InstanceStatus.RUNNING, Billing.RUNNING, 16.5),
        ("last seen dead", None, Billing.UNKNOWN, None),
        ("given up, not asked yet", InstanceStatus.RUNNING, Billing.ENDING, 16.5),
        ("given up, not asked yet", None, Billing.ENDING, None),
        ("gone, its bill not seen to end", None, Billing.GONE, None),
        ("a rent whose reply never came", None, Billing.RENTING, 15.95),
        ("held because something may be there", None, Billing.UNKNOWN, None),
    ],
)
def test_the_providers_list_goes_before_the_log(
    name: str, status: InstanceStatus | None, state: Billing, price: float | None
) -> None:
    known = bills(CASES[name][0].history)
    found = as_listed(known, None if status is None else replace(LISTED, status=status))
    assert (found.state, found.usd_per_hour) == (state, price)
    assert (found.command, found.at_once) == (known.command, known.at_once)
    told = sentence(found)
    assert ("$" in told) is (price is not None)
    if status is None and found.instance_id is not None and state is not Billing.GONE:
        assert "is not in the provider's list" in told
        assert "storage price" not in told


def test_a_folder_that_tells_of_an_instance_makes_nothing_unknown() -> None:
    assert bills(Log().history, forgotten=True).state is Billing.UNKNOWN
    assert bills(rented().history, forgotten=True).state is Billing.RUNNING
    assert sentence(unaccounted(job().name)).endswith("harness orphans night shows it.")


def test_embedded_money_is_called_embedded() -> None:
    log = Log(job(provider={"kind": "emulated"}))
    log.add(RentIntended(LABEL, OFFER, 77)).add(Rented(INSTANCE, LABEL, OFFER, 15.95, 77))
    assert "Instance 4711 bills $15.95/h (embedded: no real money)." in sentence(bills(log.history))
    assert "embedded" not in sentence(bills(rented().history))


def test_the_command_that_proves_the_end_is_told_as_such() -> None:
    found = bills(rented(FOR_NOTHING).history)
    assert sentence(found) == (
        "The destruction of instance 4711 was begun and is not proven: until then it may bill $15.95/h. "
        "harness abandon night proves the end."
    )
    assert found.instance_id == InstanceId(4711)
