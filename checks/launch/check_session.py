"""The training lives, alone, and speaks."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from harness.core.answers import BoxCheckpoint
from harness.core.contract import section
from harness.core.observed import CouldNotLook
from harness.facts.launch import LaunchFacts
from harness.job import strategy
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
def check_single_process_training(launch: LaunchFacts, job: Job, evidence: Evidence) -> None:
    """World size is 1 and no launcher is in the process tree; of a proven strategy, its ranks and launcher."""
    log = evidence.saw("log", launch.log)
    session = evidence.saw("session", launch.session)
    tree = evidence.saw("processes", launch.processes)
    size = evidence.wants("world_size", strategy.ranks(job, launch.used))
    if session.alive and not tree.processes:
        raise CouldNotLook("the training runs, and none of its processes was seen")
    if log.rests_on is RestsOn.CONTRACT:
        assert log.plan is not None, f"the log announces no plan {section('training.log')}"
        world = f"world_size={log.plan.world_size}"
        assert log.plan.world_size == size, world + verdicts.behind(world)
    elif not tree.processes:
        saved = evidence.saw("checkpoints", launch.checkpoints)
        _require_one_of_them(saved)
    allowed = {f"python -m {strategy.LAUNCHER}"} if size > 1 else set()
    for process in tree.processes:
        found = tuple(what for what in launchers.in_command(process.argv) if what not in allowed)
        assert not found, f"process {process.pid} is {' '.join(process.argv)[:120]}{verdicts.behind(*found)}"
        world = f"WORLD_SIZE={process.env.get('WORLD_SIZE', '1')}"
        right = world in {"WORLD_SIZE=1", f"WORLD_SIZE={size}"}
        assert right, f"process {process.pid} has {world}{verdicts.behind(world)}"
    if size > 1 and session.alive:
        seen = {one.env.get("RANK", "?") for one in tree.processes if one.env.get("WORLD_SIZE") == str(size)}
        assert seen == set(map(str, range(size))), f"of {size} ranks {', '.join(sorted(seen)) or 'none'} is at work"


@pytest.mark.remedy("what was launched is not what was proven: leave training.strategy out, then: harness run {job}")
def check_strategy_proven(launch: LaunchFacts, job: Job, evidence: Evidence) -> None:
    """The stated strategy was proven on this box with these libraries, or the training fell back to the rules' way."""
    settled = evidence.saw("strategy", launch.strategy)
    asked = evidence.wants("strategy", job.training.strategy)
    evidence.note("launched", strategy.told(settled.asked, settled.used, settled.why))
    if asked == "ddp":
        evidence.note("lesson", verdicts.behind("torchrun").strip(" []"))
    assert settled.asked == asked, f"{settled.asked} was tried"
    if settled.used == strategy.SEEDS:
        assert settled.why, "it fell back, and nobody says why"
        return
    assert settled.used == asked, f"it was launched by {settled.used}"
    problem = strategy.shortfall(settled.proof, job, settled.of)
    assert not problem, problem
    run = evidence.saw("run.json", launch.run)
    proven = settled.proof["versions"] if settled.proof is not None else {}
    trains = run.json.get("versions") if isinstance(run.json, dict) else None
    trains = trains if isinstance(trains, dict) else {}
    other = [name for name, version in proven.items() if trains.get(name, version) != version]
    assert not other, f"it trains with another {', '.join(other)} than was proven"


def _require_one_of_them(checkpoints: Sequence[BoxCheckpoint]) -> None:
    """For an unmodified trainer that has ended: transformers keeps a state of randomness for each of its processes."""
    several = [name for one in checkpoints for name in one.files if _OF_SEVERAL.fullmatch(name)]
    assert not several, f"a checkpoint holds {several[0]}, as one of several processes writes it"
    if not any(_OF_ONE in one.files for one in checkpoints):
        raise CouldNotLook(
            "the training has ended, none of its processes was seen, and no checkpoint tells their number"
        )
