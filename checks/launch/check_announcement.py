"""The training announces in its first minutes what was planned."""

from __future__ import annotations

import math

import pytest

from harness.core.canonical import table
from harness.core.contract import section
from harness.facts import epochs, own_rows
from harness.facts.launch import LaunchFacts
from harness.job import strategy
from harness.job.model import Job
from harness.plugin.looking import Evidence

_NO_GPU = {"cpu", "disk", "meta"}
"""Places where ``device_map`` puts what does not fit on the GPUs (accelerate's names)."""


@pytest.mark.remedy("your data is not in the training: it was stopped; mend the package, then: harness run {job}")
@pytest.mark.seed("vastai-training-agent.md", "rule 3")
def check_v2_forex_integration_logged(launch: LaunchFacts, job: Job, evidence: Evidence) -> None:
    """The log of this attempt shows the V2 line with these very counts."""
    log = evidence.saw("log", launch.log)
    found = evidence.saw("lines with its opening words", launch.proof)
    evidence.note("seconds since launch", round(launch.since_launch_s, 1))
    wanted = evidence.wants("line", job.data.demanded_line)
    assert found.exists, "there is no training.log"
    assert found.matches, f"the line did not appear within {launch.since_launch_s:.0f} s {section('training.log')}"
    newest = found.matches[-1].text.strip()
    assert newest == wanted, f"the log says {newest!r}"
    assert log.data is not None, "only an earlier attempt said so"
    assert log.data.rows == job.data.rows, " + ".join(f"{rows} {name}" for name, rows in log.data.rows.items())


@pytest.mark.remedy("other rows than yours are trained on: it was stopped; mend the package, then: harness run {job}")
@pytest.mark.seed("vastai-training-agent.md", "rule 3")
def check_trained_rows_are_yours(launch: LaunchFacts, evidence: Evidence) -> None:
    """The log and run.json announce the very rows that were staged here, by their SHA-256."""
    here = evidence.saw("rows here", launch.rows_here)
    log, run = evidence.saw("log", launch.log), evidence.saw("run.json", launch.run)
    other = own_rows.differing(here, log, run.json)
    assert not other, "; ".join(other)


@pytest.mark.remedy("see devices= in the log's PLAN line")
@pytest.mark.seed("vastai-training-agent.md", "rule 2")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "optimal configuration")
def check_model_is_sharded_as_planned(launch: LaunchFacts, job: Job, evidence: Evidence) -> None:
    """The logged device map is the required one and covers the devices that the plan names."""
    plan = evidence.saw("log", launch.log).plan
    wanted = evidence.wants("device_map", job.training.device_map)
    assert plan is not None, f"the log announces no plan {section('training.log')}"
    evidence.note("devices", plan.devices)
    assert job.maps_devices(plan.device_map), f"device_map={plan.device_map}, expected {wanted}"
    assert plan.devices, "no device holds weights"
    offloaded = [device for device in plan.devices if device in _NO_GPU]
    assert job.training.accelerator == "cpu" or not offloaded, f"weights are on {', '.join(offloaded)}, not on a GPU"
    least = evidence.wants("devices, at least", strategy.least_devices(job, launch.used))
    assert len(set(plan.devices)) >= least, f"weights are on {', '.join(plan.devices)} only"


@pytest.mark.remedy("the run is not the one that was planned: stop it, compare the job file with run.json")
@pytest.mark.seed("vastai-training-agent.md", "rule 2")
def check_effective_config_logged(launch: LaunchFacts, job: Job, evidence: Evidence) -> None:
    """Batch size, steps, adapter and dtype are as planned; the announced totals equal the computed ones."""
    plan = evidence.saw("log", launch.log).plan
    run = evidence.saw("run.json", launch.run)
    assert plan is not None, f"the log announces no plan {section('training.log')}"
    wanted = evidence.wants("plan", job.announced)
    said = {name: getattr(plan, name) for name in wanted}
    evidence.note("plan", said)
    assert said == wanted, "the announced plan differs in " + ", ".join(n for n in wanted if said[n] != wanted[n])
    assert run.exists, f"there is no run.json {section('run.json')}"
    announced = table(run.json).get("steps")
    assert announced == dict(job.training.steps), f"run.json announces {announced}"


@pytest.mark.remedy(
    "it would leave rows of yours untrained: it was stopped; mend steps or accumulation in the job file and in the"
    " package, or say how few are meant: limits.min_epochs; then: harness run {job}"
)
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "expected performance")
def check_all_rows_announced(launch: LaunchFacts, job: Job, evidence: Evidence) -> None:
    """The rows of a step and of each trainer are as planned, and all are seen; by its own records, where they tell."""
    log = evidence.saw("log", launch.log)
    least = evidence.wants("epochs, at least", job.limits.min_epochs)
    for trainer in job.taught:
        said = log.of(trainer)
        if not job.unmodified:
            assert log.plan is not None, f"the log announces no plan {section('training.log')}"
            evidence.note(f"{trainer} rows a step", log.rows_a_step(trainer))
            problem = epochs.announced(job, trainer, log)
            assert problem is None, problem
        elif said.steps:
            most = evidence.note(f"{trainer} epochs, at most", epochs.coming(said))
            assert most is None or most >= least, f"{trainer}: its steps come to {most:.3g} epochs of its rows"


@pytest.mark.remedy(
    "it is longer or shorter than the job pays for: it was stopped; set training.steps of the job file, or the steps of"
    " the trainer, then: harness run {job}"
)
def check_trainer_counts_to_planned_steps(launch: LaunchFacts, job: Job, evidence: Evidence) -> None:
    """The total to which a trainer's own log counts, where it tells one, is the one that the job file plans."""
    log = evidence.saw("log", launch.log)
    wanted = evidence.wants("steps", dict(job.training.steps))
    counted = {trainer: said.records.total for trainer, said in log.trainers.items() if said.records is not None}
    evidence.note("counts to", {trainer: total or "nothing tells" for trainer, total in counted.items()})
    other = [f"{name} counts to {total}" for name, total in counted.items() if total and total != wanted[name]]
    assert not other, "; ".join(other)


@pytest.mark.remedy("a loss that is not finite in the first steps never recovers: stop it, look at the data")
def check_first_losses_finite(launch: LaunchFacts, job: Job, evidence: Evidence) -> None:
    """The first losses are finite numbers."""
    log = evidence.saw("log", launch.log)
    steps = [step for trainer in job.trainers for step in log.of(trainer).steps[:10]]
    losses = evidence.note("losses", [step.loss for step in steps])
    evidence.wants("max_loss", job.limits.max_loss)
    assert losses, "no loss is logged yet"
    odd = [f"{step.trainer} step {step.step}: {step.loss}" for step in steps if not _sane(step.loss, job)]
    assert not odd, f"not sane: {', '.join(odd[:3])}"


def _sane(loss: float, job: Job) -> bool:
    return math.isfinite(loss) and loss <= job.limits.max_loss
