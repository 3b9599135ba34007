"""The package on the box is the one that was verified here."""

from __future__ import annotations

import pytest

from harness.facts.upload import UploadFacts
from harness.job.model import Job
from harness.plugin.looking import Evidence


@pytest.mark.remedy("harness run {job} sends what differs; stale files are removed by hand (harness ssh {job})")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "quick start 2")
def check_remote_package_matches_manifest(upload: UploadFacts, evidence: Evidence) -> None:
    """Every file on the box has the SHA-256 of the local manifest, and nothing stale lies beside them."""
    difference = evidence.saw("difference", upload.difference)
    assert not difference.missing, f"missing on the box: {', '.join(difference.missing[:5])}"
    assert not difference.different, f"other bytes on the box: {', '.join(difference.different[:5])}"
    assert not difference.unexpected, f"stale on the box: {', '.join(difference.unexpected[:5])}"
    assert difference.same > 0, "the manifest names no file"


@pytest.mark.remedy("set them in the local package, then: harness run {job}")
@pytest.mark.seed("vastai-training-agent.md", "rule 2")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "quick start 4")
def check_remote_config_as_required(upload: UploadFacts, job: Job, evidence: Evidence) -> None:
    """The script that will run has the batch size and the device map that the job requires, each if it does."""
    if evidence.wants("BATCH_SIZE", job.training.batch_size):
        batch_size = evidence.saw("BATCH_SIZE", upload.script_batch_size)
        assert batch_size == job.training.batch_size, f"BATCH_SIZE = {batch_size} on the box"
    if evidence.wants("device_map", job.training.device_map):
        device_maps = evidence.saw("device_map", upload.script_device_maps)
        # Where a trainer loads the model by itself, one GPU is where it goes.
        right = (bool(device_maps) or job.machine.gpus == 1) and all(map(job.maps_devices, device_maps))
        assert right, f"device_map is {', '.join(device_maps) or 'not given'}"


@pytest.mark.remedy("harness run {job} sends the data again")
@pytest.mark.seed("vastai-training-agent.md", "rule 3")
def check_remote_dataset_counts(upload: UploadFacts, job: Job, evidence: Evidence) -> None:
    """The box holds exactly the rows that the training log must state."""
    counts = evidence.saw("rows on the box", upload.counts)
    wanted = evidence.wants("rows", job.data.counts)
    assert counts == wanted, f"{', '.join(f'{kind} {rows}' for kind, rows in counts.items())} on the box"
