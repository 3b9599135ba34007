"""A look at a file that is shortened while its bytes are mapped."""

from __future__ import annotations

import os
from pathlib import Path

from harness.artifacts import scales
from harness.core.errors import BadInput
from harness.core.finding import Finding
from harness.core.verdict import Verdict


def shortened(path: Path) -> tuple[Finding, ...]:
    """What a host, a full disk or another process does to a file in the middle of a look."""
    mapped = scales.map_bytes(path)
    os.truncate(path, 0)
    return (Finding("read", str(mapped[-1]), Verdict.PASS, "", ""),)


def told(*given: object) -> tuple[Finding, ...]:
    """A finding that says what it was given."""
    return (Finding("told", repr(given), Verdict.UNKNOWN, "\udc80é", "", "mend it"),)


def refused(text: str) -> tuple[Finding, ...]:
    """Bad input."""
    raise BadInput(text, remedy="another")


def broken() -> tuple[Finding, ...]:
    """An error that nobody expects."""
    raise ZeroDivisionError("oh")
