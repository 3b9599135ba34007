"""The loss, the machine and the log show no sign of trouble."""

from __future__ import annotations

import math

import pytest

from harness.core.observed import CouldNotLook
from harness.facts.training import TrainingFacts
from harness.job import estimate
from harness.job.model import Job
from harness.log import course
from harness.log.grammar import SFT, Step
from harness.plugin.looking import Evidence

_WINDOW = 20
"""Steps before a resume whose losses say what is usual."""

_NOISE = 0.1
"""A loss (nats) so small that its ratios say nothing."""


@pytest.mark.remedy("it was stopped: look at the data and the learning rate; resume with harness run {job}")
@pytest.mark.seed("vastai-training-agent.md", "quick reference")
def check_loss_is_sane(training: TrainingFacts, job: Job, evidence: Evidence) -> None:
    """Every logged loss is finite and under the limit, and the loss has not gone up for good: nothing diverges."""
    log = evidence.saw("log", training.log)
    steps = [step for trainer in job.trainers for step in log.of(trainer).steps]
    most = evidence.wants("max_loss", job.limits.max_loss)
    if not steps:
        raise CouldNotLook("no loss is logged yet")
    evidence.note("newest loss", steps[-1].loss)
    odd = [f"{step.trainer} step {step.step}: {step.loss}" for step in steps if not _sane(step, most)]
    assert not odd, f"not sane: {', '.join(odd[:3])}"
    evidence.wants("median loss over its lowest, at most", job.limits.course.max_rise_factor)
    for trainer in job.trainers:
        records = log.of(trainer).records
        if records is not None and records.flat_rewards is not None:
            continue  # a mean of advantages tells no course: loss_moves judges its rewards
        problem = course.divergence(log.of(trainer), job.limits.course)
        assert problem is None, f"{trainer} diverges: {problem}"


@pytest.mark.remedy("harness ssh {job} -- nvidia-smi: idle GPUs are paid for")
@pytest.mark.seed("vastai-training-agent.md", "quick reference")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "quick start 6")
def check_gpus_are_working(training: TrainingFacts, job: Job, evidence: Evidence) -> None:
    """While it trains, at least one GPU is at work or holds the model."""
    session = evidence.saw("session", training.session)
    shown = evidence.saw("nvidia-smi", training.gpus)
    if not session.alive or job.training.accelerator == "cpu":
        return
    least = evidence.wants("utilisation, at least", job.limits.min_gpu_utilization)
    weights = evidence.wants("or MiB held in all, at least", estimate.base_bytes(job) >> 20)
    assert shown.gpus, "nvidia-smi shows no GPU"
    busy = [gpu.utilization_percent for gpu in shown.gpus if gpu.utilization_percent is not None]
    held = [gpu.memory_used_mib for gpu in shown.gpus if gpu.memory_used_mib is not None]
    if not busy and not held:
        raise CouldNotLook("the driver tells neither utilisation nor memory")
    # One look may fall between two steps: the model in memory is a sign of life too.
    assert max(busy, default=0.0) / 100 >= least or sum(held) >= weights, (
        f"the busiest GPU is at {max(busy, default=0.0):.0f} %, and all hold {sum(held):.0f} MiB"
    )


@pytest.mark.remedy("remove old checkpoints there (harness ssh {job}); jobs begin to fail at 98 %")
def check_disk_has_room(training: TrainingFacts, job: Job, evidence: Evidence) -> None:
    """The box's disk has room for what is still to be written: before the export, the merged model and the GGUF."""
    disk = evidence.saw("disk", training.disk)
    log = evidence.saw("log", training.log)
    least = evidence.wants("free share, at least", job.limits.min_disk_free_share)
    plan = estimate.disk(job)
    exported = log.of(job.trainers[-1]).complete is not None  # from then on what it writes takes the room away
    needed = evidence.wants("bytes free, at least", 0 if exported else plan.merged + plan.gguf)
    room = f"{disk.free / 1e9:.1f} of {disk.total / 1e9:.1f} GB are free"
    assert disk.free / disk.total >= least, room
    assert disk.free >= needed, f"{room}, the export needs {needed / 1e9:.1f} GB"


@pytest.mark.remedy("the line above says what broke; after mending it: harness run {job}")
def check_no_error_lines(training: TrainingFacts, evidence: Evidence) -> None:
    """The present attempt logged no traceback, no exhausted memory or disk, no CUDA, NCCL or Xid error, no crash."""
    log = evidence.saw("log", training.log)
    evidence.note("errors of earlier attempts", len(log.earlier_errors))
    assert not log.errors, "; ".join(error.text[:200] for error in log.errors[:3])
    assert log.failed is None, f"the training says it failed: {log.failed}"


@pytest.mark.remedy("the resumed run is not the one that died: go back to an earlier checkpoint")
@pytest.mark.seed("vastai-training-agent.md", "if training dies")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "checkpoints")
def check_resume_is_continuous(training: TrainingFacts, job: Job, evidence: Evidence) -> None:
    """After a resume the steps go on from the checkpoint and the loss does not jump."""
    log = evidence.saw("log", training.log)
    factor = evidence.wants("loss after / before, at most", job.limits.loss_jump_on_resume)
    for trainer in job.trainers:
        steps = log.of(trainer).steps
        for resume in log.of(trainer).resumes:
            if resume.after is None:
                continue
            evidence.note(f"{trainer} resumed at", resume.at)
            assert resume.after.step > resume.at, f"{trainer} went back to step {resume.after.step}"
            far = resume.at + job.training.checkpoint_every
            assert resume.after.step <= far, f"{trainer} went from step {resume.at} to step {resume.after.step}"
            if resume.before is None:
                continue
            # Single losses are noisy, those of DPO above all: the highest of the last steps is what a loss may reach.
            last = resume.before.step
            before = max(step.loss for step in steps if last - _WINDOW <= step.step <= last)
            assert resume.after.loss <= before * factor + _NOISE, (
                f"{trainer}: the loss was {before} at most before step {resume.at}, and is {resume.after.loss} after it"
            )


def _sane(step: Step, most: float) -> bool:
    # A language model's loss is never exactly zero; it is logged so when every label is masked or a gradient was nan.
    zero = step.trainer == SFT and step.loss == 0
    return math.isfinite(step.loss) and step.loss <= most and not zero
