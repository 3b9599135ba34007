"""The run ended, wholly and well."""

from __future__ import annotations

import re

import pytest

from harness.core.observed import CouldNotLook
from harness.facts import adopted
from harness.facts.posttrain import PosttrainFacts
from harness.job.model import Job
from harness.plugin.looking import Evidence

_COMPLETION = re.compile(r"(COMPLETE|GGUF|Saved)")


@pytest.mark.remedy("harness logs {job}; train on there if it ended early (harness ssh {job}), then: harness run {job}")
@pytest.mark.seed("vastai-training-agent.md", "step 1")
def check_completion_logged(posttrain: PosttrainFacts, evidence: Evidence) -> None:
    """The log's end matches (COMPLETE|GGUF|Saved) and the process ended with status 0."""
    found = evidence.saw("last lines of (COMPLETE|GGUF|Saved)", posttrain.completion)
    session = evidence.saw("session", posttrain.session)
    log = evidence.saw("log", posttrain.log)
    evidence.wants("exit status", 0)
    assert found.exists, "there is no training.log"
    assert any(_COMPLETION.search(match.text) for match in found.matches), "no line of completion"
    assert not session.alive, "the training still runs"
    assert session.exit_status == 0, f"it ended with status {session.exit_status}"
    assert log.complete, "the log does not end with TRAINING COMPLETE"


@pytest.mark.remedy("train on there from the newest complete checkpoint (harness ssh {job}), then: harness run {job}")
@pytest.mark.seed("vastai-training-agent.md", "rule 5")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "expected performance")
def check_all_steps_done(posttrain: PosttrainFacts, job: Job, evidence: Evidence) -> None:
    """Every trainer reached its last step."""
    log = evidence.saw("log", posttrain.log)
    wanted = job.training.steps
    evidence.wants("last steps", dict(wanted))
    if job.adopted and not all(log.of(trainer).complete for trainer in wanted):
        steps = evidence.note(
            "steps in MANIFEST.json", adopted.steps_in(evidence.saw("MANIFEST.json", posttrain.manifest).json)
        )
        assert steps == dict(wanted), "neither the log nor MANIFEST.json says that all steps were done"
        return
    for trainer, steps in wanted.items():
        complete = log.of(trainer).complete
        assert complete is not None, f"{trainer} did not say that it is complete"
        assert (complete.step, complete.total) == (steps, steps), f"{trainer} ended at {complete.step}/{complete.total}"


@pytest.mark.remedy("an adapter that never moved is the base model: do not ship it; look at requires_grad")
def check_adapters_are_trained(posttrain: PosttrainFacts, job: Job, evidence: Evidence) -> None:
    """Every tensor that the adapter's configuration makes in the base model is there, finite and trained."""
    adapter = evidence.saw("adapter", posttrain.adapter)
    rank = evidence.wants("rank", job.model.lora_r)
    assert not adapter.problems, "; ".join(adapter.problems[:3])
    assert adapter.rank == rank, f"rank {adapter.rank}"
    assert adapter.matrices > 0, "it holds no LoRA matrix"
    if adapter.doubts:
        raise CouldNotLook("; ".join(adapter.doubts[:3]))
