"""The instance is ours, alone, running, and will go on running."""

from __future__ import annotations

import pytest

from harness.core.ports import InstanceStatus
from harness.facts.provision import ProvisionFacts
from harness.job import estimate
from harness.job.model import Job
from harness.plugin.looking import Evidence


@pytest.mark.remedy("destroy the others in the provider's console; harness status {job} names ours")
def check_instance_is_ours_and_single(provision: ProvisionFacts, evidence: Evidence) -> None:
    """Exactly one instance carries this job's label."""
    labelled = evidence.saw("instances with this job's labels", provision.labelled)
    ours = evidence.saw("instance", provision.instance)
    assert labelled == (ours.id,), f"{len(labelled)} instances carry this job's labels, only {ours.id} should"


@pytest.mark.remedy("look at the instance in the provider's console, then: harness run {job}")
def check_instance_running(provision: ProvisionFacts, job: Job, evidence: Evidence) -> None:
    """The provider says running, and the contract outlasts the plan."""
    instance = evidence.saw("instance", provision.instance)
    assert instance.status is InstanceStatus.RUNNING, f"the provider says {instance.status}"
    if instance.ends_at is not None:
        left = evidence.note("seconds left on the contract", instance.ends_at - provision.now)
        needed = evidence.wants("seconds of the plan", estimate.timeline(job).total)
        assert left > needed, f"it ends in {left:.0f} s, the plan takes {needed:.0f} s"


@pytest.mark.remedy("compare the key with the container log in the provider's console")
def check_host_key_pinned(provision: ProvisionFacts, evidence: Evidence) -> None:
    """The box's SSH host key is pinned: read through the provider's TLS API, or stated as first use."""
    pin = evidence.saw("pin", provision.pin)
    evidence.wants("how", "container log over the provider's TLS API, or first use")
    assert pin.keys, "no host key is pinned"
    assert pin.how, "nobody says how the host key became known"


@pytest.mark.remedy("ssh to the box by hand to see why; then: harness run {job}")
def check_ssh_answers_fresh(provision: ProvisionFacts, job: Job, evidence: Evidence) -> None:
    """A new connection, not one that was open before, logs in."""
    evidence.note("login as", job.machine.ssh_user)
    user = evidence.saw("user", provision.fresh_login)
    assert user, "the login answered with no user name"
