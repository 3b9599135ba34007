"""The file is here, and it is the very file that lay on the box."""

from __future__ import annotations

import pytest

from harness.facts.postdownload import PostdownloadFacts
from harness.job.model import Job
from harness.plugin.looking import Evidence

_GONE = "the instance is gone: harness download {job} says how a copy of the file is put back, and looks again"


@pytest.mark.remedy("harness run {job} fetches it; the instance still has it", gone=_GONE)
@pytest.mark.seed("vastai-training-agent.md", "step 3")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "download before destroy")
def check_local_file_exists(postdownload: PostdownloadFacts, evidence: Evidence) -> None:
    """The file, or the folder, was written by this job and lies at its final name, nothing unfinished beside it."""
    local = evidence.saw("file", postdownload.local)
    evidence.wants("written by this job", True)
    assert local.exists, f"there is no {local.path}"
    assert local.regular, f"{local.path} is not a regular file, or a folder of them"
    assert not local.partial, f"unfinished beside it: {', '.join(local.partial)}"


@pytest.mark.remedy("a file under the floor is not the model: harness run {job} fetches it again", gone=_GONE)
@pytest.mark.seed("vastai-training-agent.md", "step 3")
@pytest.mark.seed("vastai-training-agent.md", "download script")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "step 3")
def check_local_file_over_floor(postdownload: PostdownloadFacts, job: Job, evidence: Evidence) -> None:
    """The local file is larger than its quantization's floor (> 5 GB for Q8_0, > 3 GB for Q4_K_M), or its kind's."""
    hashed = evidence.saw("file", postdownload.hashed)
    floor = evidence.wants(f"bytes, more than ({job.artifact.described})", job.artifact.floor_bytes)
    assert hashed.size > floor, f"{hashed.size} bytes"


@pytest.mark.remedy("harness run {job} fetches it again; verified chunks are kept", gone=_GONE)
@pytest.mark.seed("vastai-training-agent.md", "rule 1")
@pytest.mark.seed("vastai-training-agent.md", "step 2")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "step 2")
def check_local_size_equals_remote(postdownload: PostdownloadFacts, evidence: Evidence) -> None:
    """The local file has as many bytes as the file on the box had; of a folder every file, and all together."""
    local = evidence.saw("local bytes", postdownload.hashed).size
    remote = evidence.wants("bytes", evidence.saw("recorded on the box", postdownload.remote).size)
    assert local == remote, f"{local} bytes here, {remote} on the box{_named(postdownload)}"


@pytest.mark.remedy(
    "the bytes here are not the bytes there: harness run {job} fetches it again. Do not destroy", gone=_GONE
)
@pytest.mark.seed("vastai-training-agent.md", "rule 1")
@pytest.mark.seed("vastai-training-agent.md", "step 2")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "step 2")
def check_local_sha256_equals_remote(postdownload: PostdownloadFacts, evidence: Evidence) -> None:
    """The local file, hashed from the disk now, has the digest that was computed on the box; of a folder all files."""
    local = evidence.saw("local sha256", postdownload.hashed).sha256
    remote = evidence.wants("sha256", evidence.saw("recorded on the box", postdownload.remote).sha256)
    assert local == remote, f"the local file is not the file that was verified on the box{_named(postdownload)}"


def _named(postdownload: PostdownloadFacts) -> str:
    """Files of a folder that differ, by name."""
    told = postdownload.differences[:3] if postdownload.remote.get().files else ()
    return f": {'; '.join(told)}" if told else ""


@pytest.mark.remedy(
    "harness run {job} copies it again", gone="the instance is gone: copy the verified file there again"
)
def check_second_copy_verified(postdownload: PostdownloadFacts, evidence: Evidence) -> None:
    """The second copy that the job asks for has the same digest."""
    copy = evidence.saw("second copy", postdownload.second_copy)
    remote = evidence.wants("sha256", evidence.saw("recorded on the box", postdownload.remote).sha256)
    assert copy.sha256 == remote, "the second copy is another file"


@pytest.mark.remedy(
    "harness run {job} fetches them; the log and the adapter are lost with the instance",
    gone="the instance is gone, and what lay on it alone is lost with it; harness verify FILE judges the model itself",
)
def check_companions_downloaded(postdownload: PostdownloadFacts, evidence: Evidence) -> None:
    """Training log, adapter, trainer states, Modelfile and manifests are here, as the manifest states them."""
    companions = evidence.saw("companions", postdownload.companions)
    assert not companions.problems, "; ".join(companions.problems[:5])
    assert companions.verified > 0, "the manifest names none"
