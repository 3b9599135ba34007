"""A real run that the system ends: it says what still bills, leaves its report, tells people, and goes on later."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import pytest

from harness.core.errors import HarnessError
from harness.ledger.events import Closed, Launched
from tests.support.operator import Operator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS")


def _launched(operator: Operator) -> bool:
    try:
        return any(isinstance(event, Launched) for event in operator.events())
    except (HarnessError, OSError):
        return False


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_run_that_gets_sigterm_says_what_bills_and_the_next_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices = tmp_path / "notices"
    monkeypatch.setenv("HARNESS_NOTIFY", notices.as_uri())
    operator = Operator(tmp_path, "login-banner")
    try:
        process = operator.start()
        deadline = time.monotonic() + 200
        while not _launched(operator) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert operator.end(process) == 143
        said = operator.said[-1].stdout + operator.said[-1].stderr
        assert "(embedded: no real money). harness run quick goes on to the verified file and ends it" in said
        assert "interrupted by SIGTERM" in said
        assert "report: " in said
        assert (operator.directory / "GOLD_STANDARD.md").stat().st_size > 0
        assert operator.run() == 0
        assert isinstance(operator.events()[-1], Closed)
        told = [json.loads(line)["occasion"] for line in notices.read_text(encoding="utf-8").splitlines()]
        assert told == ["ended", "closed"]
    finally:
        operator.close()
