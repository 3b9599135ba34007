"""Fixtures and settings shared by all rooms."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.support.postgres import Cluster

# A gate for others must not turn red by luck: CI tries the same examples each time, people try new ones; and how
# long an example takes says how busy the machine is.
settings.register_profile("same-each-time", derandomize=True, deadline=None)
settings.register_profile("new-each-time", deadline=None)
settings.load_profile("same-each-time" if os.environ.get("CI") else "new-each-time")


@pytest.fixture(autouse=True, scope="session")
def _signals_are_heard() -> None:
    """A suite that was started in the background, or under nohup, hands the signals that it ignores on to programs."""
    for name, usual in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture(autouse=True, scope="session")
def _the_power_stays_on() -> Iterator[None]:
    """Leave what is flushed to the disk with the kernel: thousands of waits that only a power failure would reward.

    In this process alone; programs that tests start wait as they do for the operator. Which calls are made, and in
    which order, is watched by the tests of ``harness.core.durable``.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(os, "fdatasync", lambda _: None, raising=False)
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL cluster of this test process."""
    from tests.support.postgres import cluster

    with cluster() as running:
        yield running
