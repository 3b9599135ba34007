"""The last words of a command: verdict, file, size, SHA-256, cost, and since when the instance is gone."""

from __future__ import annotations

from harness.ledger.events import InstanceStopped
from harness.report import Report, build
from harness.report.ending import lines
from tests.support.job_histories import DIGEST, INSTANCE, LOCAL, SIZE, Log, job


def _report(log: Log, after: float = 0.0) -> Report:
    return build(log.history, now=log.at + after, charges=None)


def test_a_job_that_is_closed_ends_with_everything() -> None:
    told = list(lines(_report(Log().closed()), failed=False))
    assert told[0].startswith("job night: CLOSED. Every gate has opened; the model is home and the instance is proven")
    assert told[1:4] == [
        f"file: {LOCAL}",
        f"size: 8.10 GB ({SIZE} bytes)",
        f"SHA-256: {DIGEST}, the same on the box and here",
    ]
    assert told[4].startswith("cost: $")
    assert " of a budget of $" in told[4]
    assert told[5].startswith(f"instance {INSTANCE}: gone since 15 Jan 2027, ")
    assert told[5].endswith(" UTC, as is proven")
    assert len(told) == 6


def test_after_an_error_the_verdict_is_left_to_the_error() -> None:
    assert [line.partition(":")[0] for line in lines(_report(Log().trained()), failed=True)] == ["cost"]
    told = list(lines(_report(Log().verified()), failed=True))
    assert [line.partition(":")[0] for line in told] == ["file", "size", "SHA-256", "cost"]


def test_before_a_rent_there_is_a_verdict_and_no_cost() -> None:
    (told,) = lines(_report(Log()), failed=False)
    assert told.startswith("job night: UNDER WAY.")


def test_embedded_money_is_called_embedded() -> None:
    told = list(lines(_report(Log(job(provider={"kind": "emulated"})).closed()), failed=False))
    assert told[4].endswith("(embedded: no real money)")


def test_a_stopped_instance_is_not_said_to_be_gone() -> None:
    told = list(lines(_report(Log().trained().add(InstanceStopped(INSTANCE, "x"))), failed=False))
    assert not [line for line in told if "gone since" in line]
