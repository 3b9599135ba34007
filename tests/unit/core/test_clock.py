"""Time that runs: what is rented bills while this machine sleeps."""

from __future__ import annotations

import sys
import time

import pytest

from harness.core import clock
from harness.core.clock import SystemClock


def test_the_seconds_that_this_machine_slept_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of the clocks: CLOCK_BOOTTIME of linux/time.h, CLOCK_MONOTONIC of macOS's time.h."""
    assert {"linux": 7, "darwin": 6, "win32": None}[sys.platform] == clock._STEADY
    monkeypatch.setattr(clock, "_STEADY", 7)
    monkeypatch.setattr(time, "clock_gettime", {7: 42.0}.__getitem__, raising=False)
    assert SystemClock().monotonic() == 42.0


def test_a_system_without_such_a_clock_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_STEADY", None)
    assert SystemClock().monotonic() == pytest.approx(time.monotonic(), abs=60)
