"""The training trains: judged by its course, for every single value may be sound in one that does nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest

from harness.core.observed import CouldNotLook
from harness.facts.training import TrainingFacts
from harness.job.model import Job
from harness.log import course
from harness.log.grammar import DPO
from harness.log.summary import LogSummary, RestsOn, TrainerLog
from harness.plugin.looking import Evidence


@pytest.mark.remedy("it was stopped: look at what is trainable, at the labels and at the data; then: harness run {job}")
def check_loss_moves(training: TrainingFacts, job: Job, evidence: Evidence) -> None:
    """The loss changes from step to step and has not come down to nothing; too few steps are not judged yet."""
    limits = job.limits.course
    evidence.wants("loss in nats, at least", limits.min_loss_nats)
    log = evidence.saw("log", training.log)
    for said in _begun(log):
        name = said.steps[0].trainer
        _note_length(evidence, said, job)
        flat = said.records.flat_rewards if said.records is not None else None
        problem = course.standstill(said, limits) if flat is None else course.flat_rewards(said, flat)
        assert problem is None, f"{name}: {problem}"


@pytest.mark.remedy("mend the optimizer's settings, or print more digits of the rate (%.6g); then: harness run {job}")
def check_learning_rate_follows_schedule(training: TrainingFacts, job: Job, evidence: Evidence) -> None:
    """The learning rate is a number, is not 0 for many steps, and follows the schedule where one is announced."""
    limits = job.limits.course
    evidence.wants("distance from the schedule, as a share of its peak, at most", limits.lr_tolerance_share)
    log = evidence.saw("log", training.log)
    for said in _begun(log):
        name = said.steps[0].trainer
        evidence.note(f"{name} schedule", said.schedule or "none is announced (docs/contract.md, training.log)")
        problem = course.rate_problem(_with_rates(said) if log.rests_on is RestsOn.TRAINER else said, limits)
        assert problem is None, f"{name}: {problem}"


@pytest.mark.remedy("look at the reference, at beta, at the learning rate and at the pairs; then: harness run {job}")
def check_preferences_are_learned(training: TrainingFacts, job: Job, evidence: Evidence) -> None:
    """DPO begins at ln 2, its reference being its start, and ends below it; too few steps are not judged yet."""
    limits = job.limits.course
    evidence.wants("nats below ln 2 at the end, at least", limits.dpo_gain_nats)
    log = evidence.saw("log", training.log)
    said = log.of(DPO)
    evidence.note("first loss", log.first_dpo_loss)
    _note_length(evidence, said, job)
    if said.records is not None:
        problem = course.margin_problem(said, said.records.margins, limits)
    else:
        problem = course.preference_problem(said, log.first_dpo_loss, limits)
    assert problem is None, problem


@pytest.mark.remedy("it is not the run that was announced: see what starts it or changes it, then: harness run {job}")
def check_announced_plan_holds(training: TrainingFacts, evidence: Evidence) -> None:
    """The announced steps, batch size, adapter and dtype stay what they were, also after a resume."""
    log = evidence.saw("log", training.log)
    changed = list(course.changed_announcements(log))
    assert not changed, "; ".join(changed)


def _with_rates(said: TrainerLog) -> TrainerLog:
    """The steps with a rate: a trainer's own records need not tell any. Raises CouldNotLook when none does."""
    told = tuple(step for step in said.steps if not math.isnan(step.lr))
    if not told:
        raise CouldNotLook(f"the trainer logs no learning rate of {said.steps[0].trainer}")
    return replace(said, steps=told)


def _begun(log: LogSummary) -> Iterator[TrainerLog]:
    """The trainers that have logged a step; raises CouldNotLook when none has."""
    begun = [said for said in log.trainers.values() if said.steps]
    if not begun:
        raise CouldNotLook("no loss is logged yet")
    yield from begun


def _note_length(evidence: Evidence, said: TrainerLog, job: Job) -> None:
    if course.too_short(said, job.limits.course):
        evidence.note("too few steps to judge their course, which takes", job.limits.course.judged_from_steps)
