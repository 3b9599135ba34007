"""An instance that was taken over: its training is over, and it was the one that the operator's job file plans."""

from __future__ import annotations

from typing import Any

import pytest

from harness.core.observed import CouldNotLook
from harness.facts import own_rows
from harness.facts.posttrain import PosttrainFacts
from harness.job.model import Job
from harness.plugin.looking import Evidence


@pytest.mark.remedy("wait for the training to end, or end it yourself; then: harness run {job}")
def check_adopted_run_is_over(posttrain: PosttrainFacts, evidence: Evidence) -> None:
    """The log ends with TRAINING COMPLETE, no session runs, and an exit status that was recorded is 0."""
    log = evidence.saw("log", posttrain.log)
    session = evidence.saw("session", posttrain.session)
    assert not session.alive, "the training still runs"
    assert log.failed is None, f"the training failed: {log.failed}"
    assert log.complete, "the log does not end with TRAINING COMPLETE"
    if session.exit_status is not None:
        assert session.exit_status == 0, f"it ended with status {session.exit_status}"


@pytest.mark.remedy("it is another training than the job file's: give the job file that fits; then: harness run {job}")
@pytest.mark.seed("vastai-training-agent.md", "rule 3")
def check_adopted_run_is_as_planned(posttrain: PosttrainFacts, job: Job, evidence: Evidence) -> None:
    """The log and run.json announced what the job file plans: the data's counts, model, adapter, steps."""
    log = evidence.saw("log", posttrain.log)
    run = evidence.saw("run.json", posttrain.run)
    assert log.data is not None, f"the log has no line {job.data.proof.opening}"
    assert log.plan is not None, "the log announces no plan"
    assert run.exists, "there is no run.json"
    if not isinstance(run.json, dict):
        raise CouldNotLook("run.json is no JSON object")
    wanted = evidence.wants("announced", _planned(job))
    said = {
        job.data.proof.opening: {"sft": log.data.sft, "dpo": log.data.dpo},
        "log": {name: getattr(log.plan, name) for name in wanted["log"]},
        **_announced(run.json),
    }
    evidence.note("announced", said)
    differing = [
        f"{where}: {name} is {said[where].get(name)!r}, planned {value!r}"
        for where, values in wanted.items()
        for name, value in values.items()
        if said[where].get(name) != value
    ]
    assert not differing, "; ".join(differing[:5])


@pytest.mark.remedy(
    "put the very files that were uploaded into the data directory of package.source, or, for a rehearsal, say "
    "allow_built_rows = true in [data] of the job file; then: harness run {job}"
)
@pytest.mark.seed("vastai-training-agent.md", "rule 3")
def check_adopted_rows_are_yours(posttrain: PosttrainFacts, job: Job, evidence: Evidence) -> None:
    """The rows that the training announced are those in the package here, or built ones that the job file allows."""
    log, run = evidence.saw("log", posttrain.log), evidence.saw("run.json", posttrain.run)
    built = {kind: rows.built for kind, rows in log.rows.items() if rows.built == rows.rows}
    if evidence.wants("allow_built_rows", job.data.allow_built_rows) and set(built) == set(job.data.files):
        evidence.note("built rows", built)
        return
    other = own_rows.differing(evidence.saw("rows here", posttrain.rows_here), log, run.json)
    assert not other, "; ".join(other)


def _planned(job: Job) -> dict[str, dict[str, Any]]:
    training, model, data = job.training, job.model, job.data
    return {
        data.proof.opening: {"sft": data.sft, "dpo": data.pairs},
        "log": {**job.announced, "device_map": training.device_map, "world_size": 1},
        "run.json": {
            "steps": {"sft": training.sft_steps, "dpo": training.dpo_steps},
            "rows": {"features": data.features, "scenarios": data.scenarios, "pairs": data.pairs},
            "architecture": model.architecture,
            "hidden_size": model.hidden_size,
            "num_hidden_layers": model.num_hidden_layers,
            "vocab_size": model.vocab_size,
        },
    }


def _announced(run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Values that run.json announces; one that it lacks, or has in another shape, equals nothing that is planned."""
    model, data = run.get("model"), run.get("data")
    config = model.get("config") if isinstance(model, dict) else None
    rows = {
        kind: about.get("rows") if isinstance(about, dict) else None
        for kind, about in (data.items() if isinstance(data, dict) else ())
    }
    return {"run.json": {**(config if isinstance(config, dict) else {}), "steps": run.get("steps"), "rows": rows}}
