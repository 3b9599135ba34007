"""The loss, the machine and the log show no sign of trouble."""

from __future__ import annotations

import math

import pytest

from harness.facts.training import TrainingFacts
from harness.job.model import Job
from harness.log.grammar import Trainer
from harness.plugin.looking import Evidence


@pytest.mark.remedy("it was stopped: look at the data and the learning rate; resume with harness run {job}")
@pytest.mark.seed("quick reference")
def check_loss_is_sane(training: TrainingFacts, job: Job, evidence: Evidence) -> None:
    """Every logged loss is finite and under the limit: nothing diverges."""
    log = evidence.saw("log", training.log)
    steps = [step for trainer in Trainer for step in log.of(trainer).steps]
    most = evidence.wants("max_loss", job.limits.max_loss)
    assert steps, "no loss is logged"
    evidence.note("newest loss", steps[-1].loss)
    odd = [f"{step.trainer} step {step.step}: {step.loss}" for step in steps if not _sane(step.loss, most)]
    assert not odd, f"not sane: {', '.join(odd[:3])}"


@pytest.mark.remedy("nvidia-smi on the box: idle GPUs are paid for")
@pytest.mark.seed("quick reference")
def check_gpus_are_working(training: TrainingFacts, job: Job, evidence: Evidence) -> None:
    """While it trains, at least one GPU is at work or holds the model."""
    session = evidence.saw("session", training.session)
    shown = evidence.saw("nvidia-smi", training.gpus)
    if not session.alive or job.training.accelerator == "cpu":
        return
    least = evidence.wants("utilisation, at least", job.limits.min_gpu_utilization)
    busy = max((gpu.utilization_percent or 0.0 for gpu in shown.gpus), default=0.0)
    held = max((gpu.memory_used_mib or 0.0 for gpu in shown.gpus), default=0.0)
    assert busy / 100 >= least or held > 1024, f"the busiest GPU is at {busy:.0f} % and holds {held:.0f} MiB"


@pytest.mark.remedy("remove old checkpoints on the box; jobs begin to fail at 98 %")
def check_disk_has_room(training: TrainingFacts, job: Job, evidence: Evidence) -> None:
    """The box's disk has room for what is still to be written."""
    disk = evidence.saw("disk", training.disk)
    least = evidence.wants("free share, at least", job.limits.min_disk_free_share)
    assert disk.free / disk.total >= least, f"{disk.free / 1e9:.1f} of {disk.total / 1e9:.1f} GB are free"


@pytest.mark.remedy("the line above says what broke; after mending it: harness run {job}")
def check_no_error_lines(training: TrainingFacts, evidence: Evidence) -> None:
    """The present attempt logged no traceback, no exhausted memory or disk, no NCCL or Xid error."""
    log = evidence.saw("log", training.log)
    evidence.note("errors of earlier attempts", len(log.earlier_errors))
    assert not log.errors, "; ".join(error.text[:200] for error in log.errors[:3])
    assert log.failed is None, f"the training says it failed: {log.failed}"


@pytest.mark.remedy("the resumed run is not the one that died: go back to an earlier checkpoint")
@pytest.mark.seed("if training dies")
def check_resume_is_continuous(training: TrainingFacts, job: Job, evidence: Evidence) -> None:
    """After a resume the steps go on from the checkpoint and the loss does not jump."""
    log = evidence.saw("log", training.log)
    factor = evidence.wants("loss after / before, at most", job.limits.loss_jump_on_resume)
    for trainer in Trainer:
        for resume in log.of(trainer).resumes:
            if resume.after is None:
                continue
            evidence.note(f"{trainer} resumed at", resume.at)
            assert resume.after.step > resume.at, f"{trainer} went back to step {resume.after.step}"
            if resume.before is not None:
                assert resume.after.loss <= resume.before.loss * factor + 0.1, (
                    f"{trainer}: the loss went from {resume.before.loss} to {resume.after.loss}"
                )


def _sane(loss: float, most: float) -> bool:
    return math.isfinite(loss) and loss <= most
