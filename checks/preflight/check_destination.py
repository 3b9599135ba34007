"""The place where the artifact is to arrive."""

from __future__ import annotations

import pytest

from harness.facts.preflight import PreflightFacts
from harness.plugin.looking import Evidence


@pytest.mark.remedy(
    "move the files named above elsewhere or name another artifact.destination, then: harness run {job}"
)
def check_destination_is_clean(preflight: PreflightFacts, evidence: Evidence) -> None:
    """No older model file lies in the destination that could be mistaken for this job's."""
    older = evidence.saw("older files", preflight.destination_files)
    assert not older, f"in the destination already: {', '.join(older)}"
