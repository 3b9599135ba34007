"""Checkpoints are on the box when they are due, complete, and the newest adapter is also here."""

from __future__ import annotations

import pytest

from harness.facts.checkpoints import complete_steps, due_steps, problems
from harness.facts.training import TrainingFacts
from harness.job.model import Job
from harness.log.grammar import Trainer
from harness.plugin.looking import Evidence


@pytest.mark.remedy("ls -la models/output/sft/checkpoint-* on the box")
@pytest.mark.seed("rule 4")
def check_checkpoints_every_100_steps(training: TrainingFacts, job: Job, evidence: Evidence) -> None:
    """The newest due checkpoint of each trainer exists and is complete."""
    log = evidence.saw("log", training.log)
    every = evidence.wants("checkpoint_every", job.training.checkpoint_every)
    looked = {
        Trainer.SFT: (training.sft_checkpoints, job.training.sft_steps),
        Trainer.DPO: (training.dpo_checkpoints, job.training.dpo_steps),
    }
    for trainer, (observed, total) in looked.items():
        checkpoints = evidence.saw(f"{trainer} checkpoints", observed)
        complete = complete_steps(checkpoints)
        last = log.of(trainer).last
        reached = last.step if last is not None else 0
        # A step is logged a moment before its checkpoint is written, and older ones may be removed by then.
        due = [step for step in due_steps(reached - 1, every, total) if step not in complete]
        newest_due = max(due_steps(reached - 1, every, total), default=None)
        assert newest_due is None or newest_due not in due, (
            f"{trainer} is past step {newest_due}, and that checkpoint is not complete: "
            + "; ".join(text for one in checkpoints if one.step == newest_due for text in problems(one))
        )


@pytest.mark.remedy("a training without a complete checkpoint starts from zero when it dies: look at save_total_limit")
@pytest.mark.seed("rule 4")
def check_one_complete_checkpoint_always(training: TrainingFacts, job: Job, evidence: Evidence) -> None:
    """Once the first checkpoint is due, at least one complete one is on the box at all times."""
    log = evidence.saw("log", training.log)
    sft = evidence.saw("sft checkpoints", training.sft_checkpoints)
    dpo = evidence.saw("dpo checkpoints", training.dpo_checkpoints)
    last = log.of(Trainer.SFT).last
    due = last is not None and last.step > job.training.checkpoint_every
    evidence.wants("complete checkpoints, at least", 1 if due else 0)
    assert not due or complete_steps(sft) or complete_steps(dpo), "no complete checkpoint is on the box"


@pytest.mark.remedy("harness run {job} mirrors the newest adapter; look at the network and at the local disk")
@pytest.mark.seed("checkpoints are lost with the instance")
def check_checkpoints_mirrored(training: TrainingFacts, evidence: Evidence) -> None:
    """The newest complete adapter is also on this machine, not only on the box."""
    here = {(one.trainer, one.step) for one in evidence.saw("mirror", training.mirror) if one.problem is None}
    sft = complete_steps(evidence.saw("sft checkpoints", training.sft_checkpoints))
    dpo = complete_steps(evidence.saw("dpo checkpoints", training.dpo_checkpoints))
    newest = ("dpo", dpo[-1]) if dpo else ("sft", sft[-1]) if sft else None
    assert newest is None or newest in here, f"{newest[0]} step {newest[1]} is not mirrored" if newest else ""
