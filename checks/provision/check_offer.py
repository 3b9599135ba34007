"""The offer that was agreed to is the one that was asked for."""

from __future__ import annotations

import pytest

from harness.facts.provision import ProvisionFacts
from harness.job import estimate
from harness.job.model import Job
from harness.plugin.looking import Evidence


@pytest.mark.remedy("change [machine] in the job file, or give the instance back: harness abandon {job}")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "quick start 1")
def check_offer_meets_spec(provision: ProvisionFacts, job: Job, evidence: Evidence) -> None:
    """The rented offer has the GPUs, disk, reliability, CUDA, direct port and duration; it is on demand."""
    offer = evidence.saw("offer", provision.offer)
    is_bid = evidence.saw("instance", provision.instance).is_bid
    machine = evidence.wants("machine", job.machine)
    planned = evidence.wants("seconds, more than", estimate.timeline(job).total)
    names = evidence.saw("names of the GPU", provision.gpu_names)
    assert offer.gpu_name in names, f"the GPU is {offer.gpu_name}, not {machine.gpu}"
    assert offer.num_gpus >= machine.gpus, f"{offer.num_gpus} GPUs, {machine.gpus} were asked for"
    assert offer.disk_gb >= machine.disk_gb, f"{offer.disk_gb:.0f} GB of disk"
    assert offer.reliability >= machine.min_reliability, f"reliability {offer.reliability:.3f}"
    assert offer.cuda_max >= machine.min_cuda, f"its driver supports CUDA up to {offer.cuda_max}"
    assert offer.direct_ports > 0 or not machine.direct_port, "it has no direct port"
    assert offer.duration_s > planned, f"it may be rented for {offer.duration_s:.0f} s, the plan takes {planned:.0f} s"
    assert not is_bid, "it is a bid: whoever pays more takes it away"


@pytest.mark.remedy("harness abandon {job}, or raise max_usd_per_hour in the job file")
@pytest.mark.seed("vastai-training-agent.md", "cost reference")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "cost estimate")
def check_price_within_cap(provision: ProvisionFacts, job: Job, evidence: Evidence) -> None:
    """Everything billed by the hour costs what was agreed, and is within the cap."""
    agreed = evidence.saw("offer", provision.offer).usd_per_hour
    billed = evidence.saw("instance", provision.instance).usd_per_hour
    cap = evidence.wants("max_usd_per_hour", job.machine.max_usd_per_hour)
    assert billed <= cap, f"${billed:.2f}/h is billed, the cap is ${cap:.2f}/h"
    assert billed <= agreed * 1.01, f"${billed:.2f}/h is billed, ${agreed:.2f}/h was agreed"
