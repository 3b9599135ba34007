"""The plan adds up: time, money, disk."""

from __future__ import annotations

import pytest

from harness.core.money import usd
from harness.core.text import human_bytes, human_seconds
from harness.facts.preflight import PreflightFacts
from harness.job import estimate
from harness.job.model import Job
from harness.plugin.looking import Evidence


@pytest.mark.seed("vastai-training-agent.md", "rule 4")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "checkpoints")
@pytest.mark.remedy("do what is named above, then: harness run {job}")
def check_checkpoints_fit_plan(preflight: PreflightFacts, job: Job, evidence: Evidence) -> None:
    """Checkpoints come as often as planned, and the first one before too much of the budget is gone."""
    limit = job.limits.budget_usd * job.limits.first_checkpoint_share
    evidence.wants("USD gone at the first checkpoint, at most", round(limit, 2))
    every = evidence.wants("steps between checkpoints", job.training.checkpoint_every)
    seconds = evidence.note("seconds to the first checkpoint", estimate.first_checkpoint_s(job))
    evidence.note("checkpoints", estimate.checkpoints_due(job))
    spent = evidence.note("USD gone at the first checkpoint", round(usd(seconds, job.most_usd_per_hour), 2))
    assert spent <= limit, (
        f"the first checkpoint lands after {human_seconds(seconds)}, when {spent:.2f} USD are gone; "
        f"at most {limit:.2f} of {job.limits.budget_usd:.2f} may be: "
        "lower training.checkpoint_every, or raise limits.budget_usd"
    )
    stated = evidence.saw("save_steps by place", preflight.save_steps)
    if not stated:
        evidence.note("no script states save_steps", "checkpoints_every_100_steps sees what comes of that")
    wrong = {place: steps for place, steps in stated.items() if steps != every}
    places = "; ".join(f"{place}: save_steps={steps}" for place, steps in wrong.items())
    assert not wrong, f"{places}: set {every} there, or training.checkpoint_every of the job file to what stands there"


@pytest.mark.remedy("raise machine.disk_gb (it is fixed when the machine is rented), then: harness run {job}")
def check_disk_plan_fits(job: Job, evidence: Evidence) -> None:
    """Base, merged model, model file and kept checkpoints fit on the instance's disk, with room left."""
    disk = evidence.note("disk plan in bytes", estimate.disk(job))
    room = evidence.wants("bytes at most", int(disk.size * (1 - job.limits.min_disk_free_share)))
    assert disk.needed <= room, (
        f"{human_bytes(disk.needed)} are needed, {human_bytes(room)} of {human_bytes(disk.size)} may be used"
    )


@pytest.mark.seed("vastai-training-agent.md", "step 3")
@pytest.mark.remedy("free disk space here, or correct [model] and [artifact] of the job file, then: harness run {job}")
def check_artifact_size_predicted(preflight: PreflightFacts, job: Job, evidence: Evidence) -> None:
    """The model file's size, predicted from the shape, is over the floor; twice that and the mirror fit here."""
    floor = evidence.wants("bytes more than", job.artifact.floor_bytes)
    predicted = evidence.note("predicted bytes", estimate.artifact_bytes(job))
    assert predicted > floor, (
        f"this model as {job.artifact.described} comes to {human_bytes(predicted)}, "
        f"which is not over the floor of {human_bytes(floor)}: [model] or the floor is not the true one"
    )
    needed = evidence.wants("free bytes here at least", 2 * predicted + estimate.mirror_bytes(job))
    free = evidence.saw("free bytes here", preflight.local_free_bytes)
    assert free >= needed, f"{human_bytes(free)} are free here, {human_bytes(needed)} are needed"


@pytest.mark.seed("vastai-training-agent.md", "cost reference")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "cost estimate")
@pytest.mark.remedy(
    "raise limits.budget_usd or lower the price cap or the steps in the job file, then: harness run {job}"
)
def check_cost_within_budget(job: Job, evidence: Evidence) -> None:
    """The timeline at the price cap, the traffic included, costs no more than the budget."""
    budget = evidence.wants("USD at most", job.limits.budget_usd)
    evidence.note("estimate", estimate.in_words(job))
    time = evidence.note("timeline in seconds", estimate.timeline(job))
    cost = evidence.note("cost in USD", estimate.cost(job))
    assert cost.total <= budget, (
        f"{human_seconds(time.total)} at {job.machine.max_usd_per_hour:.2f} USD/h and the traffic come to "
        f"{cost.total:.2f} USD, the budget is {budget:.2f}"
    )
