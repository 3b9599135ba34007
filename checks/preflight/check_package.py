"""The package is whole."""

from __future__ import annotations

import pytest

from harness.facts.preflight import PreflightFacts
from harness.job import image
from harness.job.model import Job
from harness.plugin.looking import Evidence


@pytest.mark.seed("vastai-training-agent.md", "read these files first")
@pytest.mark.remedy("put the files named above into package.source (or build them), then: harness run {job}")
def check_package_files_complete(preflight: PreflightFacts, job: Job, evidence: Evidence) -> None:
    """The entry script, the requirements, the data and the documents to be read first are in the package."""
    evidence.wants(
        "files", (job.package.entry, job.package.requirements, *job.package.documents, *job.data.paths.values())
    )
    missing = evidence.saw("missing files", preflight.missing_files)
    assert not missing, f"not in the package: {', '.join(missing)}"


@pytest.mark.remedy("mend the lines named above in package.source, then: harness run {job}")
def check_package_compiles(preflight: PreflightFacts, evidence: Evidence) -> None:
    """Every Python file of the package compiles."""
    broken = evidence.saw("files that do not compile", preflight.compile_errors)
    assert not broken, f"these would stop the paid run: {'; '.join(broken)}"


@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "quick start 1")
@pytest.mark.remedy("name an image with newer versions in machine.image (docs/decisions/004), then: harness run {job}")
def check_image_fits_package(job: Job, evidence: Evidence) -> None:
    """Nothing in the image's name promises an older Python or torch than the package needs; the box is asked later."""
    evidence.wants("at least", job.package.needs)
    evidence.note("image", job.machine.image)
    evidence.note("its name promises", image.promised(job.machine.image) or "nothing")
    old = image.too_old(job.machine.image, job.package.needs)
    assert not old, f"{job.machine.image} has {'; '.join(old)}"
