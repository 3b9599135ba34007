"""The scripts train as the operating rules demand."""

from __future__ import annotations

import pytest

from harness.core.contract import section
from harness.core.observed import CouldNotLook
from harness.facts import epochs
from harness.facts.preflight import PreflightFacts
from harness.facts.preflight_smoke import Resolved
from harness.job import strategy
from harness.job.model import Job
from harness.lessons import verdicts
from harness.plugin.looking import Evidence


@pytest.mark.seed("vastai-training-agent.md", "rule 2")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "optimal configuration")
@pytest.mark.remedy("set BATCH_SIZE as expected, at one place, in the entry script, then: harness run {job}")
def check_batch_size_is_32(preflight: PreflightFacts, job: Job, evidence: Evidence) -> None:
    """The batch size that the entry script states, and that the package resolves, is the one that was paid for."""
    wanted = evidence.wants("BATCH_SIZE", job.training.batch_size)
    stated = evidence.saw("BATCH_SIZE in the script", preflight.script_batch_size)
    assert stated == wanted, f"BATCH_SIZE = {stated} in {job.package.entry}, expected {wanted}"
    if job.gates.smoke_run and not job.unmodified:
        resolved = _resolved(preflight, evidence, "the resolved batch size")
        assert resolved.batch_size == wanted, f"the script says {stated}, but the package trains {resolved.batch_size}"


def _resolved(preflight: PreflightFacts, evidence: Evidence, what: str) -> Resolved:
    """The configuration that the package resolved in the smoke run; raises CouldNotLook when nothing tells ``what``."""
    resolved = evidence.saw("configuration of the smoke run", preflight.smoke).resolved
    if resolved is None:
        raise CouldNotLook(f"the smoke run left no run.json that tells {what} {section('run.json')}")
    return resolved


@pytest.mark.remedy(
    "raise the steps, or the rows that a step takes (training.accumulation and the package's own setting), or say in "
    "the job file how few are meant: limits.min_epochs, under 1 for a rehearsal; then: harness run {job}"
)
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "expected performance")
def check_all_rows_planned(preflight: PreflightFacts, job: Job, evidence: Evidence) -> None:
    """The planned steps, at the rows that each takes by the job and by the package, see all rows of every trainer."""
    evidence.wants("epochs, at least", job.limits.min_epochs)
    for trainer, rows in job.taught.items():
        a_step = job.training.rows_a_step(trainer)
        seen = job.training.steps[trainer] * a_step
        evidence.note(f"{trainer}", f"{seen} of {rows} rows, {seen / rows:.3g} epochs, {a_step} rows a step")
        short = epochs.shortfall(job, trainer, a_step)
        if short and job.unmodified and trainer not in job.training.accumulation:
            raise CouldNotLook(f"{short}, and training.accumulation does not say whether a step takes several batches")
        assert short is None, short
    if job.gates.smoke_run and not job.unmodified:
        resolved = _resolved(preflight, evidence, "the rows of a step")
        for trainer in job.taught:
            fewer = epochs.shortfall(job, trainer, resolved.rows_a_step.get(trainer, resolved.batch_size))
            assert fewer is None, f"the package's own settings are others: {fewer}"


@pytest.mark.seed("vastai-training-agent.md", "rule 2")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "optimal configuration")
@pytest.mark.remedy('load the model with device_map="auto" at the places named above, then: harness run {job}')
def check_device_map_is_auto(preflight: PreflightFacts, job: Job, evidence: Evidence) -> None:
    """The model is loaded with device_map="auto" everywhere; with one GPU, with any map that puts it there."""
    wanted = evidence.wants("device_map", job.training.device_map)
    maps = evidence.saw("device_map by place", preflight.device_maps)
    wrong = {place: value for place, value in maps.found.items() if not job.maps_devices(value)}
    other = [f"{place}: device_map={value}, expected {wanted}" for place, value in wrong.items()]
    assert not wrong, "; ".join(other) + verdicts.behind(*other)
    if maps.unreadable:
        raise CouldNotLook("these cannot be read from the text: " + "; ".join(maps.unreadable))
    # Where the trainer loads the model by itself, one GPU is where it goes.
    nowhere = f"{job.package.entry} and what it imports load no model with a device_map"
    assert maps.found or job.machine.gpus == 1, nowhere
    if job.gates.smoke_run and not job.unmodified:
        told = _resolved(preflight, evidence, "the resolved device map").device_map
        assert job.maps_devices(told), f"the scripts say {wanted}, but the package loads {told}"


@pytest.mark.seed("vastai-training-agent.md", "rule 2")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "doesn't work 1")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "doesn't work 2")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "doesn't work 3")
@pytest.mark.remedy("remove what is named above: one process trains, with device_map; then: harness run {job}")
def check_no_forbidden_launcher(preflight: PreflightFacts, evidence: Evidence) -> None:
    """Nothing uses accelerate launch, torchrun, DeepSpeed or FSDP: commands, scripts, configurations, requirements."""
    launchers = evidence.saw("launchers", preflight.launchers)
    assert not launchers, "with LoRA these lost the run before: " + "; ".join(launchers) + verdicts.behind(*launchers)


@pytest.mark.remedy("mend what is named above, or leave training.strategy out, then: harness run {job}")
def check_strategy_can_be_proven(preflight: PreflightFacts, job: Job, evidence: Evidence) -> None:
    """Job, machine and package have what the strategy needs that the job states, a command that proves it first."""
    evidence.wants("strategy", job.training.strategy)
    problem = strategy.refusal(job)
    assert problem is None, problem
    there = evidence.saw("file that proves it", preflight.prover)
    assert there, (
        f"package.prove is {' '.join(job.package.prove)}, and the package has no {strategy.prover(job.package.prove)}: "
        f"the strategy {job.training.strategy!r} is never used without a proof {section('A strategy')}"
    )


@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "doesn't work 3")
@pytest.mark.remedy("change the options named above, then: harness run {job}")
def check_no_forbidden_option_pairs(preflight: PreflightFacts, evidence: Evidence) -> None:
    """No options are set together that are known to fail together."""
    pairs = evidence.saw("option pairs", preflight.option_pairs)
    assert not pairs, "; ".join(pairs) + verdicts.behind(*pairs)
