"""The measure of memory counts this program alone, whatever started it."""

from __future__ import annotations

import subprocess
import sys

import pytest

MEASURE = "from tests.support.memory import peak_memory; print(peak_memory())"


@pytest.mark.skipif(sys.platform != "linux", reason="the other measure is the system's own")
def test_a_large_parent_is_not_counted() -> None:
    ballast = bytearray(200 << 20)
    ran = subprocess.run([sys.executable, "-c", MEASURE], check=True, capture_output=True, text=True)
    assert len(ballast) > int(ran.stdout) > 1 << 20
