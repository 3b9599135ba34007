"""The machine shows itself to be what was rented."""

from __future__ import annotations

import re

import pytest

from harness.facts.provision import ProvisionFacts
from harness.job import estimate
from harness.job.model import Job
from harness.plugin.looking import Evidence

_FORMS = ("SXM", "PCIE", "NVL")
"""Forms of a data-centre GPU; the driver's name of an SXM board often does not say so."""


@pytest.mark.remedy("the host lies or is broken: harness abandon {job}, and report the machine to the provider")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "quick start 1")
def check_gpus_match_offer(provision: ProvisionFacts, evidence: Evidence) -> None:
    """nvidia-smi shows the rented GPUs, all of them."""
    shown = evidence.saw("nvidia-smi", provision.gpus)
    offer = evidence.saw("offer", provision.offer)
    evidence.wants("GPUs", f"{offer.num_gpus}x {offer.gpu_name}")
    assert len(shown.gpus) == offer.num_gpus, f"{len(shown.gpus)} GPUs are shown"
    strangers = [gpu.name for gpu in shown.gpus if not _same_model(offer.gpu_name, gpu.name)]
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


def _same_model(offered: str, shown: str) -> bool:
    """True when the market's name (``H100 SXM``) and the driver's (``NVIDIA H100 80GB HBM3``) are of one GPU.

    The model is the first word with a digit, a whole word of the other: neither an L40S nor a
    GH200 passes for an L40 or an H200, nor one RTX for another. What both say of the form must agree.
    """
    asked, found = _words(offered), _words(shown)
    model = next((word for word in asked if any(letter.isdigit() for letter in word)), None)
    forms = [{form for form in _FORMS for word in words if word.startswith(form)} for words in (asked, found)]
    return model is not None and model in found and (forms[0] == forms[1] or not all(forms))


def _words(name: str) -> list[str]:
    apart = re.sub(r"(?<=[0-9])(?=[A-Z][a-z])", " ", name)  # the market writes "RTX 6000Ada"
    return re.findall(r"[A-Z0-9]+", apart.upper())
