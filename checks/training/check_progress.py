"""The training lives, moves, and moves at the pace that was paid for."""

from __future__ import annotations

import pytest

from harness.core.money import usd
from harness.facts.training import TrainingFacts, steps_left_s
from harness.job.model import Job
from harness.plugin.looking import Evidence


@pytest.mark.remedy("harness run {job} launches it again: it goes on from the newest complete checkpoint")
def check_training_process_alive_or_done(training: TrainingFacts, evidence: Evidence) -> None:
    """The training runs, or has ended with status 0."""
    session = evidence.saw("session", training.session)
    assert session.started, "it was never started"
    assert session.alive or session.exit_status == 0, f"it {session.ending}"


@pytest.mark.remedy(
    "harness monitor {job} shows its GPUs and its log; harness run {job} stops and resumes a hung training"
)
@pytest.mark.seed("vastai-training-agent.md", "quick reference")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "quick start 6")
def check_progress_is_advancing(training: TrainingFacts, job: Job, evidence: Evidence) -> None:
    """The log grew within the stall limit (an export may be silent as planned), or the training has ended."""
    session = evidence.saw("session", training.session)
    age = evidence.saw("seconds since the log grew", training.log_age_s)
    log = evidence.saw("log", training.log)
    exporting = log.of(job.trainers[-1]).complete is not None
    limits = job.limits
    limit = evidence.wants("seconds, at most", limits.stall_s + (limits.export_s if exporting else 0))
    assert not session.alive or age <= limit, f"nothing was written for {age:.0f} s"


@pytest.mark.remedy("harness ssh {job} -- nvidia-smi; raise pace_tolerance only if you accept the cost")
@pytest.mark.seed("vastai-training-agent.md", "rule 5")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "expected performance")
def check_pace_within_timeline(training: TrainingFacts, job: Job, evidence: Evidence) -> None:
    """Seconds a step are within the timeline, and what it will have cost is under the cap."""
    log = evidence.saw("log", training.log)
    session = evidence.saw("session", training.session)
    limits = job.limits
    if not all(log.of(trainer).numbered for trainer in job.trainers):
        evidence.note("steps", "the log does not tell them: the whole training is counted as still to come")
    for trainer in job.trainers:
        planned = limits.s_per_step[trainer]
        pace = log.of(trainer).s_per_step
        if pace is None:
            continue
        evidence.note(f"{trainer} s/step", pace)
        if rows := log.rows_a_step(trainer) or job.training.rows_a_step(trainer):
            evidence.note(f"{trainer} samples/s", log.of(trainer).samples_per_s(rows))
        most = evidence.wants(f"{trainer} s/step, at most", planned * limits.pace_tolerance)
        assert pace <= most or not session.alive, f"{trainer} takes {pace:.2f} s a step, {planned:.2f} are planned"
    evidence.note("spent USD", round(training.spent_usd, 4))
    evidence.wants("budget_usd", limits.budget_usd)
    assert training.spent_usd <= limits.budget_usd, f"${training.spent_usd:.2f} are spent"
    if session.alive:
        coming = usd(steps_left_s(job, log), job.most_usd_per_hour)
        projected = evidence.note("spent USD at the last step", round(training.spent_usd + coming, 4))
        assert projected <= limits.budget_usd, f"${projected:.2f} will be spent when the last step is done"
