"""Traces of a job in a list: what may be its own although no whole label says so, by clocks and logs that differ."""

from __future__ import annotations

import dataclasses

import pytest

from harness.core.ids import InstanceId, JobName, VolumeId
from harness.core.ports import Instance, Volume
from harness.ledger.events import RentIntended
from harness.ledger.ownership import Claim, Known
from harness.ledger.traces import Traces
from harness.ledger.two_clocks import TwoClocks
from tests.support.fake_clock import FakeClock
from tests.support.job_histories import LABEL, Log, job
from tests.support.scripted_world import Market, offer

CUT, MACHINE = LABEL[:14], 77


def _log(machine: object = MACHINE) -> Log:
    """A job whose rent on a machine was begun, and of which nothing more is known."""
    return Log().add(RentIntended(LABEL, {**dataclasses.asdict(offer()), "machine_id": machine}, 7))


def _shown(**told: object) -> Instance:
    market = Market(FakeClock())
    market.add(900, "")
    market.change(InstanceId(900), **{"machine_id": MACHINE, **told})
    return market.rented[InstanceId(900)]


def _claim(of: str, *, gone: bool) -> Known:
    number = InstanceId(900)
    return Known({number: Claim(JobName(of), number, gone=gone, usd=None, now="closed")})


@pytest.mark.parametrize(("of", "gone", "doubted"), [("other", False, False), ("night", True, True)])
def test_what_another_jobs_log_accounts_for_is_its_own_and_what_this_ones_has_had_is_not(
    of: str, *, gone: bool, doubted: bool
) -> None:
    """This job's log has proven an instance to be gone, and it shows under a cut label: it lives."""
    log = _log()
    traces = Traces(log.history, _claim(of, gone=gone), TwoClocks(log.at, log.at))
    assert (traces.doubt(_shown(label=CUT)) is not None) is doubted


@pytest.mark.parametrize(
    ("here", "provider", "started", "doubted"),
    [
        (60.0, 60.0, 30.0, True),
        (60.0, 60.0, -100.0, True),
        (60.0, 60.0, -4000.0, False),
        (60.0, 9060.0, 9030.0, True),
        (60.0, 9060.0, 30.0, False),
        (-7200.0, 60.0, 30.0, True),
        (-7200.0, 60.0, -3600.0, True),
        (60.0, 60.0, None, True),
    ],
    ids=[
        "just now",
        "rounded",
        "long before",
        "the provider's clock is ahead",
        "long before by that clock",
        "this clock was set back",
        "it was set back, and nothing is told by it",
        "not started",
    ],
)
def test_an_instance_without_a_label_is_doubted_by_when_it_began(
    here: float, provider: float, started: float | None, *, doubted: bool
) -> None:
    log = _log()
    traces = Traces(log.history, Known(), TwoClocks(log.at + provider, log.at + here))
    shown = _shown(started_at=None if started is None else log.at + started)
    assert (traces.doubt(shown) is not None) is doubted


@pytest.mark.parametrize(("machine", "doubted"), [(MACHINE, True), (78, False), (0, True), (None, True)])
def test_it_is_doubted_on_the_machine_of_the_rent_and_anywhere_where_that_is_not_known(
    machine: object, *, doubted: bool
) -> None:
    log = _log(machine)
    traces = Traces(log.history, Known(), TwoClocks(log.at, log.at))
    assert (traces.doubt(_shown(started_at=log.at)) is not None) is doubted


def test_a_volume_with_a_cut_label_is_doubted_unless_it_is_kept() -> None:
    stored = Volume(VolumeId(5), CUT, 12, 20.0, 0.004)
    kept = job(provider={"kept_volumes": [5]})
    for of, doubted in ((job(), True), (kept, False)):
        log = Log(of)
        assert (Traces(log.history, Known(), TwoClocks(log.at, log.at)).doubt(stored) is not None) is doubted
