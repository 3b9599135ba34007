"""The machine shows itself to be what was rented."""

from __future__ import annotations

import pytest

from harness.core.gpu_names import same_model
from harness.facts.provision import ProvisionFacts
from harness.job import estimate
from harness.job.model import Job
from harness.plugin.looking import Evidence


@pytest.mark.remedy("the host lies or is broken: harness abandon {job}, and report the machine to the provider")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "quick start 1")
def check_gpus_match_offer(provision: ProvisionFacts, evidence: Evidence) -> None:
    """nvidia-smi shows the rented GPUs, all of them."""
    shown = evidence.saw("nvidia-smi", provision.gpus)
    offer = evidence.saw("offer", provision.offer)
    evidence.wants("GPUs", f"{offer.num_gpus}x {offer.gpu_name}")
    assert len(shown.gpus) == offer.num_gpus, f"{len(shown.gpus)} GPUs are shown"
    strangers = [gpu.name for gpu in shown.gpus if not same_model(offer.gpu_name, gpu.name)]
    assert not strangers, f"not a {offer.gpu_name}: {', '.join(strangers)}"


@pytest.mark.remedy("rent a host with a newer driver: harness abandon {job}, then raise min_cuda in the job file")
def check_driver_supports_cuda(provision: ProvisionFacts, job: Job, evidence: Evidence) -> None:
    """The driver is new enough for the image's CUDA."""
    shown = evidence.saw("nvidia-smi", provision.gpus)
    wanted = evidence.wants("min_driver", job.machine.min_driver)
    majors = {gpu.driver.split(".")[0] for gpu in shown.gpus}
    assert majors, "no GPU tells its driver"
    assert all(major.isdigit() and int(major) >= wanted for major in majors), f"driver {', '.join(sorted(majors))}"


@pytest.mark.remedy("rent with more disk: it cannot grow later")
def check_disk_free_as_planned(provision: ProvisionFacts, job: Job, evidence: Evidence) -> None:
    """The box's disk has the room that the plan needs."""
    disk = evidence.saw("disk", provision.disk)
    needed = evidence.wants("bytes needed", estimate.disk(job).needed)
    assert disk.free >= needed, f"{disk.free / 1e9:.1f} GB are free, {needed / 1e9:.1f} GB are needed"


@pytest.mark.remedy("every minute of download is paid: harness abandon {job}, and rent a host with a better line")
def check_bandwidth_sufficient(provision: ProvisionFacts, job: Job, evidence: Evidence) -> None:
    """At the measured rate the artifact comes home inside the plan."""
    rate = evidence.saw("bytes per second on one connection", provision.download_bytes_per_s)
    planned = evidence.wants("planned seconds of download", job.limits.download_s)
    seconds = estimate.artifact_bytes(job) / rate
    assert seconds <= planned, f"the artifact would take {seconds:.0f} s at {rate / 1e6:.1f} MB/s"
