"""Checkpoints are on the box when they are due, complete, and the newest adapter is also here."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import pytest

from harness.artifacts.checkpoint import weights_of
from harness.core.answers import BoxCheckpoint
from harness.core.observed import CouldNotLook
from harness.facts.checkpoints import complete_steps, due_steps, in_order, problems
from harness.facts.training import TrainingFacts
from harness.job.model import Job
from harness.log.summary import TrainerLog
from harness.plugin.looking import Evidence


@pytest.mark.remedy("harness ssh {job} opens a shell there, for ls -la models/output/sft/checkpoint-* in the package")
@pytest.mark.seed("vastai-training-agent.md", "rule 4")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "checkpoints")
def check_checkpoints_every_100_steps(training: TrainingFacts, job: Job, evidence: Evidence) -> None:
    """The newest due checkpoint of each trainer is complete, and none was left out before it."""
    log = evidence.saw("log", training.log)
    every = evidence.wants("checkpoint_every", job.training.checkpoint_every)
    for trainer, total in job.training.steps.items():
        checkpoints = evidence.saw(f"{trainer} checkpoints", training.checkpoints[trainer])
        complete = complete_steps(checkpoints)
        due = due_steps(_saved_up_to(log.of(trainer)), every, total)
        if not due:
            continue
        _require_read(one for one in checkpoints if one.step == due[-1])
        told = [text for one in checkpoints if one.step == due[-1] for text in problems(one)]
        assert due[-1] in complete, f"{trainer} is past step {due[-1]}, and that checkpoint is not complete: " + (
            "; ".join(told) or "it is not there"
        )
        # Older ones may be removed again, but they must have been written.
        logged = {step.step for step in log.of(trainer).steps}
        left_out = [step for step in due if step in logged and step not in {*complete, *log.of(trainer).saved}]
        assert not left_out, f"{trainer} wrote no checkpoint at step {', '.join(map(str, left_out))}"


@pytest.mark.remedy("a training without a complete checkpoint starts from zero when it dies: look at save_total_limit")
@pytest.mark.seed("vastai-training-agent.md", "rule 4")
def check_one_complete_checkpoint_always(training: TrainingFacts, job: Job, evidence: Evidence) -> None:
    """Once the first checkpoint is due, at least one complete one is on the box at all times."""
    log = evidence.saw("log", training.log)
    found = [evidence.saw(f"{trainer} checkpoints", seen) for trainer, seen in training.checkpoints.items()]
    every = job.training.checkpoint_every
    due = any(due_steps(_saved_up_to(log.of(name)), every, total) for name, total in job.training.steps.items())
    evidence.wants("complete checkpoints, at least", 1 if due else 0)
    if due and not any(map(complete_steps, found)):
        _require_read(chain(*found))
        raise AssertionError("no complete checkpoint is on the box")


@pytest.mark.remedy("harness run {job} mirrors the newest checkpoint; look at the network and at the local disk")
@pytest.mark.seed("vastai-training-agent.md", "rule 1")
def check_checkpoints_mirrored(training: TrainingFacts, job: Job, evidence: Evidence) -> None:
    """The newest complete weights are also on this machine, or while it is on its way the one before it.

    A training that ended well needs it no more: what it made comes home next.
    """
    mirror = evidence.saw("mirror", training.mirror)
    session = evidence.saw("session", training.session)
    seen = {name: evidence.saw(f"{name} checkpoints", training.checkpoints[name]) for name in job.trainers}
    found = [(trainer, one) for trainer, told in seen.items() for one in in_order(told) if not problems(one)]
    if not found or session.exit_status == 0:
        return
    home = {(one.trainer, one.step): one for one in mirror}
    trainer, there = found[-1]
    if session.alive and (trainer, there.step) not in home:
        if len(found) == 1:
            return
        trainer, there = found[-2]
    here = home.get((trainer, there.step))
    assert here is not None, f"{trainer} step {there.step} is not mirrored"
    assert here.problem is None, f"the mirrored {trainer} step {there.step} is damaged: {here.problem}"
    size = there.files.get(weights_of(there.files) or "")
    assert here.bytes == size, f"the mirrored {trainer} step {there.step} has {here.bytes} bytes, {size} on the box"


def _require_read(checkpoints: Iterable[BoxCheckpoint]) -> None:
    """Raise CouldNotLook when one of them may be whole, but could not be read."""
    for one in checkpoints:
        if one.unread and not one.problems:
            raise CouldNotLook(f"{one.path}: {'; '.join(one.unread)}")


def _saved_up_to(said: TrainerLog) -> int:
    """The last step whose checkpoint must be on the disk: a step is logged a moment before it is saved."""
    if said.complete is not None:
        return said.complete.step
    return said.last.step - 1 if said.last is not None else 0
