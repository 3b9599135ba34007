"""Every way in which ``harness run`` ends has a meaning for the fleet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.core import errors
from harness.fleet.consequence import Consequence, consequence

AGAIN = {
    "GateUnknown", "NotProven", "ProviderUnavailable", "NoAnswer", "InstanceDead", "AmbiguousCreate", "OfferGone",
    "HostUnreachable", "HostKeyChanged", "TransferFailed", "RemoteChanged", "LocalDiskFull", "LocalReadOnly",
    "StoreFailed", "LogDamaged", "Conflict", "JobBusy", "LeaseLost",
}  # fmt: skip
"""Told apart by their exit codes alone: some of these are tried again in vain, and then held."""
HELD = {
    "HarnessError", "BadInput", "NoKey", "GateHeld", "Unaccounted", "Claimed", "Refused", "MissingExtra",
    "StillBilling",
}  # fmt: skip


def _all(of: type[errors.HarnessError] = errors.HarnessError) -> Iterator[type[errors.HarnessError]]:
    yield of
    for below in of.__subclasses__():
        yield from _all(below)


def test_every_error_is_told_apart() -> None:
    ours = {one.__name__: consequence(one.exit_code) for one in _all() if one.__module__ == errors.__name__}
    assert {name for name, ended in ours.items() if ended is Consequence.AGAIN} == AGAIN
    assert {name for name, ended in ours.items() if ended is Consequence.HELD} == HELD


@pytest.mark.parametrize(
    ("code", "ended"),
    [
        (0, Consequence.PASSED),
        (-9, Consequence.AGAIN),  # killed, as by a system that is out of memory
        (-11, Consequence.AGAIN),
        (130, Consequence.AGAIN),
        (143, Consequence.AGAIN),
        (137, Consequence.HELD),  # of nobody's making that is known here
        (99, Consequence.HELD),
    ],
)
def test_an_end_that_no_error_made(code: int, ended: Consequence) -> None:
    assert consequence(code) is ended
