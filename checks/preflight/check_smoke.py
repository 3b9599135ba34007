"""The package works at all, and so does what will judge its model: tried where it costs nothing."""

from __future__ import annotations

import pytest

from harness.core.contract import section
from harness.core.observed import CouldNotLook
from harness.facts.preflight import PreflightFacts, Smoke
from harness.job.model import Job
from harness.log.errors import ErrorKind, error_line
from harness.plugin.looking import Evidence

_UNSEEN = (
    "that the package trains at all",
    "that it goes on after a death",
    "that it resolves the batch size and the device map that its text states",
    "that it exports one model file, and that this verifies",
)
"""Claims that the smoke run alone looks at."""


@pytest.mark.remedy("run gates.smoke_command in package.source yourself, mend what fails, then: harness run {job}")
def check_smoke_run_passes(preflight: PreflightFacts, job: Job, evidence: Evidence) -> None:
    """The package itself trains a tiny model here, goes on after a death, and exports a model file that verifies."""
    evidence.wants("exit status", 0)
    smoke = evidence.saw("smoke run", preflight.smoke)
    evidence.note("memory of the smoke run", smoke.memory)
    assert not smoke.timed_out, f"it did not end within {job.gates.smoke_timeout_s:.0f} s:\n{smoke.tail}"
    assert smoke.status == 0, f"it ended with status {smoke.status}{_out_of_memory(smoke)}:\n{smoke.tail}"
    assert smoke.gguf_problem is None, f"it ended well, but: {smoke.gguf_problem}"
    if job.unmodified:
        evidence.note("going on after a death", "not tried: an unmodified trainer need not, and then it begins anew")
    assert smoke.resume_problem is None, f"it does not go on after a death: {smoke.resume_problem}"


@pytest.mark.remedy(
    "let the package write the GGUF, or let a smoke run show that it does (gates.smoke_run); then: harness run {job}"
)
def check_artifact_is_written_by_the_package(preflight: PreflightFacts, job: Job, evidence: Evidence) -> None:
    """Something in the package writes the model file: its smoke run did, or its scripts hold a writer."""
    evidence.wants("the artifact", f"{job.artifact.remote_dir}/*.{job.artifact.quantization}.gguf {section('Outputs')}")
    if not job.gates.smoke_run:
        evidence.note("seen by nobody, for gates.smoke_run is off", _UNSEEN)
    elif preflight.smoke.value is not None and preflight.smoke.value.gguf is not None:
        evidence.note("written by the smoke run", preflight.smoke.value.gguf)
        return
    else:
        evidence.note("the smoke run made none", "see smoke_run_passes")
    writers = evidence.saw("writers of a GGUF in the scripts", preflight.writers)
    if writers.found:
        return
    told = "; ".join(writers.only_told[:3])
    assert not told, f"nothing in {job.package.entry} and what it imports writes a GGUF, it is only told how: {told}"
    raise CouldNotLook(
        f"{job.package.entry} and what it imports hold no writer of a GGUF that is known here {section('Outputs')}"
    )


@pytest.mark.remedy(
    "install what is missing, or do without that proof: gates.generate = false; then: harness run {job}"
)
def check_runtime_loads(preflight: PreflightFacts, evidence: Evidence) -> None:
    """The llama.cpp runtime that the finished model must generate in loads on this machine."""
    version = evidence.saw("llama.cpp runtime (xllamacpp)", preflight.runtime)
    assert version, "the runtime does not tell its version"


def _out_of_memory(smoke: Smoke) -> str:
    """A remark where the bound on the smoke run's memory is what ended it."""
    lines = map(error_line, smoke.tail.splitlines())
    short = any(line is not None and line.kind is ErrorKind.OUT_OF_MEMORY for line in lines)
    bounded = smoke.memory_bytes is not None and short
    return f" with {smoke.memory} of memory (does it read the tiny model's configuration?)" if bounded else ""
