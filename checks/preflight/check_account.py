"""The account can pay, can log in, and pays for nothing that is forgotten."""

from __future__ import annotations

import base64
import binascii

import pytest

from harness.facts.preflight import PreflightFacts
from harness.job import estimate
from harness.job.model import Job
from harness.plugin.looking import Evidence


@pytest.mark.remedy(
    "mend what the message names: the API key (VAST_API_KEY), the network, the credit; then: harness run {job}"
)
def check_credentials_work(preflight: PreflightFacts, job: Job, evidence: Evidence) -> None:
    """The API key answers for the expected account, its credit covers the plan, and the SSH key is usable."""
    needed = evidence.wants("credit in USD at least", round(estimate.cost(job).total, 2)) if job.is_billed else 0.0
    account = evidence.saw("account", preflight.account)
    if job.provider.user_id is not None:
        expected = evidence.wants("account", job.provider.user_id)
        assert account.user_id == expected, f"the API key belongs to account {account.user_id}, expected {expected}"
    assert account.credit_usd >= needed, f"{account.credit_usd:.2f} USD of credit, the plan needs {needed:.2f}"
    key = evidence.saw("SSH public key", preflight.public_key)
    kind, _, rest = key.strip().partition(" ")
    assert kind.startswith(("ssh-", "ecdsa-", "sk-")), "the SSH public key is not in OpenSSH's format"
    try:
        inner = base64.b64decode(rest.partition(" ")[0], validate=True)
    except binascii.Error:
        inner = b""
    assert kind.encode() in inner, "the SSH public key is damaged"


@pytest.mark.remedy("harness orphans {job} tells more, and what to do about each; then: harness run {job}")
def check_no_orphans(preflight: PreflightFacts, evidence: Evidence) -> None:
    """No instance and no volume of this tool bills that no job answers for."""
    orphans = evidence.saw("orphans", preflight.orphans)
    assert not orphans, "; ".join(orphans)
