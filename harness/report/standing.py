"""Sentences at the top of a report: the job's state, what could be lost, and what to do next. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.text import human_seconds
from harness.ledger.bills import Bills, next_command, sentence
from harness.ledger.history import History
from harness.report.model import ArtifactReport, InstanceReport, JobStanding, StageReport, StageState


def of(history: History) -> JobStanding:
    """State of the job."""
    if history.destroyed is not None and history.verified is None:
        return JobStanding.LOST
    if history.closed and history.alive is None:
        return JobStanding.CLOSED
    return JobStanding.HELD if history.held is not None else JobStanding.UNDER_WAY


def headline(stands: JobStanding, history: History, stages: Sequence[StageReport]) -> str:
    """The state in one sentence."""
    now = history.stage
    if stands is JobStanding.LOST:
        return "The instance is gone and no verified file is here."
    if stands is JobStanding.CLOSED:
        seen = "Every gate has opened"
        if history.job.adopted:
            seen = "Adopted: what came before the training's end was not looked at. Every gate since has opened"
        by = history.destroyed.by if history.destroyed is not None else None
        whose = f", destroyed by {by}" if by is not None else ""
        return f"{seen}; the model is home and the instance is proven to be gone{whose}."
    if history.held is not None and stands is JobStanding.HELD:
        return f"Held at {history.held.stage}: {history.held.reason}"
    passed = sum(stage.verdict is not None and stage.left_at is not None for stage in stages)
    return f"In stage {now}; {passed} of {len(history.stages)} gates have opened." if now else "Every gate has opened."


def age(at: float, now: float) -> str:
    """Sentence before the headline of a job of another machine, whose last event was at ``at``."""
    return f"Recorded on another machine, {human_seconds(max(0.0, now - at))} ago by its last event. "


def judging(history: History) -> str:
    """The next command for a job of another machine."""
    return f"pytest --pyargs harness.checks --stage=all --job={history.job.name} --artifact PATH"


def safety(artifact: ArtifactReport | None, instance: InstanceReport | None, bill: Bills) -> str:
    """Sentences about what could be lost, what still costs money, and the command that ends that."""
    home = artifact is not None and artifact.verified
    costs = sentence(bill) if bill.may_bill else "Nothing is billed."
    if instance is None:
        return costs if bill.may_bill else "Nothing is rented, so nothing can be lost and nothing is billed."
    if home and not bill.may_bill:
        return "Nothing is lost and nothing is billed."
    if home:
        return f"{costs} Nothing is lost: the verified model is here."
    if instance.gone_at is not None:
        return f"{costs} What was on the instance is lost."
    if instance.destroy_requested:
        return costs
    return f"{costs} Nothing is lost: everything there is is on that instance, so do not destroy it in any other way."


def next_step(stands: JobStanding, history: History, bill: Bills) -> str:
    """The next command to type."""
    if stands is JobStanding.CLOSED:
        return f"harness verify {history.verified.path if history.verified else 'FILE'}"
    going_on = None if stands is JobStanding.LOST else next_command(history, bill)
    return going_on or "harness status"


def current(stages: Sequence[StageReport]) -> StageReport | None:
    """The stage that the job is in; None when it has gone through all."""
    return next((stage for stage in stages if stage.left_at is None and stage.state is not StageState.LEFT_OUT), None)
