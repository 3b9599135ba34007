"""After the instance went: gone, no longer billed, nothing forgotten."""

from __future__ import annotations

import pytest

from harness.facts.teardown import TeardownFacts
from harness.plugin.looking import Evidence

_NOISE_USD = 1e-4
"""A hundredth of a cent (USD): less is rounding."""


@pytest.mark.remedy("harness destroy {job} goes on trying; look at the provider's console")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "quick start 7")
def check_instance_is_gone(teardown: TeardownFacts, evidence: Evidence) -> None:
    """Several whole listings lack it, each with a positive control."""
    proof = evidence.saw("proof of absence", teardown.absence)
    least = evidence.wants("looks that agree, at least", 3)
    assert len(proof.looks) >= least, f"{len(proof.looks)} looks agree"
    assert len({look.user_id for look in proof.looks}) == 1, "the looks were taken with the keys of several accounts"


@pytest.mark.remedy("look at the provider's billing page; delete a volume there, or name it in provider.kept_volumes")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "quick start 7")
def check_billing_stopped(teardown: TeardownFacts, evidence: Evidence) -> None:
    """The instance's charges no longer grow, and no volume that was mounted in it bills on unless it is meant to."""
    proof = evidence.saw("charges", teardown.billing)
    least = evidence.wants("looks with the same sum, at least", 2)
    assert len(proof.looks) >= least, f"{len(proof.looks)} looks"
    grown = max(look.usd for look in proof.looks) - min(look.usd for look in proof.looks)
    assert grown < _NOISE_USD, f"the charges went from ${proof.looks[0].usd:.4f} to ${proof.looks[-1].usd:.4f}"
    volumes = evidence.saw("volumes of the instance", teardown.volumes)
    assert not volumes, f"still billed: {'; '.join(volumes)}"


@pytest.mark.remedy("harness orphans {job} tells more; look at what it cannot place in the provider's console")
def check_no_orphans_left(teardown: TeardownFacts, evidence: Evidence) -> None:
    """No instance and no volume of this tool bills that no job in the ledger answers for."""
    orphans = evidence.saw("orphans", teardown.orphans)
    assert not orphans, ", ".join(orphans)
