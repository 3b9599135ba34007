"""The package works at all, and so does what will judge its model: tried where it costs nothing."""

from __future__ import annotations

import pytest

from harness.facts.preflight import PreflightFacts
from harness.job.model import Job
from harness.plugin.looking import Evidence


@pytest.mark.remedy("run gates.smoke_command in package.source yourself, mend what fails, then: harness run {job}")
def check_smoke_run_passes(preflight: PreflightFacts, job: Job, evidence: Evidence) -> None:
    """The package itself trains a tiny model here, goes on after a death, and exports a model file that verifies."""
    evidence.wants("exit status", 0)
    smoke = evidence.saw("smoke run", preflight.smoke)
    assert not smoke.timed_out, f"it did not end within {job.gates.smoke_timeout_s:.0f} s:\n{smoke.tail}"
    assert smoke.status == 0, f"it ended with status {smoke.status}:\n{smoke.tail}"
    assert smoke.gguf_problem is None, f"it ended well, but: {smoke.gguf_problem}"
    assert smoke.resume_problem is None, f"it does not go on after a death: {smoke.resume_problem}"


@pytest.mark.remedy(
    "install what is missing, or do without that proof: gates.generate = false; then: harness run {job}"
)
def check_runtime_loads(preflight: PreflightFacts, evidence: Evidence) -> None:
    """The llama.cpp runtime that the finished model must generate in loads on this machine."""
    version = evidence.saw("llama.cpp runtime (xllamacpp)", preflight.runtime)
    assert version, "the runtime does not tell its version"
