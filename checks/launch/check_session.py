"""The training lives, alone, and speaks."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from harness.core.answers import BoxCheckpoint
from harness.core.contract import section
from harness.core.observed import CouldNotLook
from harness.facts.launch import LaunchFacts
from harness.job.model import Job
from harness.lessons import verdicts
from harness.log.summary import RestsOn
from harness.plugin.looking import Evidence
from harness.static import launchers

_OF_ONE = "rng_state.pth"
_OF_SEVERAL = re.compile(r"rng_state_\d+\.pth")


@pytest.mark.remedy("harness logs {job} says why; then: harness run {job}")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "quick start 5")
def check_training_session_alive(launch: LaunchFacts, evidence: Evidence) -> None:
    """The terminal session and the process in it exist, or have ended well."""
    session = evidence.saw("session", launch.session)
    assert session.started, "the training was never started"
    assert session.alive or session.exit_status == 0, f"it {session.ending}"


@pytest.mark.remedy("harness logs -f {job}")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "quick start 6")
def check_log_is_growing(launch: LaunchFacts, job: Job, evidence: Evidence) -> None:
    """The training log grew within the stall limit, or the training has ended well."""
    session = evidence.saw("session", launch.session)
    age = evidence.saw("seconds since the log grew", launch.log_age_s)
    limit = evidence.wants("stall_s", job.limits.stall_s)
    ended_well = not session.alive and session.exit_status == 0
    assert ended_well or age <= limit, f"nothing was written for {age:.0f} s"


@pytest.mark.remedy("start the training with plain python3: a launcher breaks device_map='auto'")
@pytest.mark.seed("vastai-training-agent.md", "rule 2")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "doesn't work 4")
def check_single_process_training(launch: LaunchFacts, evidence: Evidence) -> None:
    """World size is 1 and no launcher is in the process tree."""
    log = evidence.saw("log", launch.log)
    session = evidence.saw("session", launch.session)
    tree = evidence.saw("processes", launch.processes)
    evidence.wants("world_size", 1)
    if session.alive and not tree.processes:
        raise CouldNotLook("the training runs, and none of its processes was seen")
    if log.rests_on is RestsOn.CONTRACT:
        assert log.plan is not None, f"the log announces no plan {section('training.log')}"
        world = f"world_size={log.plan.world_size}"
        assert log.plan.world_size == 1, world + verdicts.behind(world)
    elif not tree.processes:
        saved = evidence.saw("checkpoints", launch.checkpoints)
        _require_one_of_them(saved)
    for process in tree.processes:
        found = tuple(launchers.in_command(process.argv))
        assert not found, f"process {process.pid} is {' '.join(process.argv)[:120]}{verdicts.behind(*found)}"
        world = f"WORLD_SIZE={process.env.get('WORLD_SIZE', '1')}"
        assert world == "WORLD_SIZE=1", f"process {process.pid} has {world}{verdicts.behind(world)}"


def _require_one_of_them(checkpoints: Sequence[BoxCheckpoint]) -> None:
    """For an unmodified trainer that has ended: transformers keeps a state of randomness for each of its processes."""
    several = [name for one in checkpoints for name in one.files if _OF_SEVERAL.fullmatch(name)]
    assert not several, f"a checkpoint holds {several[0]}, as one of several processes writes it"
    if not any(_OF_ONE in one.files for one in checkpoints):
        raise CouldNotLook(
            "the training has ended, none of its processes was seen, and no checkpoint tells their number"
        )
