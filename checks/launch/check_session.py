"""The training lives, alone, and speaks."""

from __future__ import annotations

import pytest

from harness.facts.launch import LaunchFacts
from harness.job.model import Job
from harness.plugin.looking import Evidence

_LAUNCHERS = ("accelerate", "torchrun", "deepspeed", "torch.distributed")


@pytest.mark.remedy("tail training.log on the box; then: harness run {job}")
@pytest.mark.seed("quick start 5")
def check_training_session_alive(launch: LaunchFacts, evidence: Evidence) -> None:
    """The terminal session and the process in it exist, or have ended well."""
    session = evidence.saw("session", launch.session)
    assert session.started, "the training was never started"
    assert session.alive or session.exit_status == 0, (
        "it was killed" if session.exit_status is None else f"it ended with status {session.exit_status}"
    )


@pytest.mark.remedy("tail -f training.log on the box")
@pytest.mark.seed("quick start 6")
def check_log_is_growing(launch: LaunchFacts, job: Job, evidence: Evidence) -> None:
    """The training log grew within the stall limit."""
    age = evidence.saw("seconds since the log grew", launch.log_age_s)
    limit = evidence.wants("stall_s", job.limits.stall_s)
    assert age <= limit, f"nothing was written for {age:.0f} s"


@pytest.mark.remedy("start the training with plain python3: a launcher breaks device_map='auto'")
@pytest.mark.seed("rule 2")
def check_single_process_training(launch: LaunchFacts, evidence: Evidence) -> None:
    """World size is 1 and no launcher is in the process tree."""
    log = evidence.saw("log", launch.log)
    tree = evidence.saw("processes", launch.processes)
    evidence.wants("world_size", 1)
    assert log.plan is not None, "the log announces no plan"
    assert log.plan.world_size == 1, f"world_size={log.plan.world_size}"
    for process in tree.processes:
        words = " ".join(process.argv)
        launcher = next((name for name in _LAUNCHERS if name in words), None)
        assert launcher is None, f"process {process.pid} is {words[:120]}"
        world = process.env.get("WORLD_SIZE", "1")
        assert world == "1", f"process {process.pid} has WORLD_SIZE={world}"
