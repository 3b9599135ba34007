"""An instance that was taken over: its training is over, and it was the one that the operator's job file plans."""

from __future__ import annotations

import pytest

from harness.core.observed import CouldNotLook
from harness.facts import adopted, own_rows
from harness.facts.posttrain import PosttrainFacts
from harness.job.model import Job
from harness.plugin.looking import Evidence


@pytest.mark.remedy(
    "wait for the training to end, or run its command again on the box: it goes on from where it is; "
    "then: harness run {job}"
)
def check_adopted_run_is_over(posttrain: PosttrainFacts, job: Job, evidence: Evidence) -> None:
    """No session runs, and the log's last line or MANIFEST.json, which is written last, says that all is done."""
    log = evidence.saw("log", posttrain.log)
    session = evidence.saw("session", posttrain.session)
    listed = evidence.saw("MANIFEST.json", posttrain.manifest)
    at_work = evidence.saw("processes at work in its directory", posttrain.at_work)
    assert not session.alive, "the training still runs"
    assert not at_work, f"something still runs there: {'; '.join(at_work[:5])}"
    if session.exit_status is not None:
        assert session.exit_status == 0, f"it ended with status {session.exit_status}"
    done = adopted.steps_in(listed.json) == dict(job.training.steps)
    evidence.note(
        "rests on",
        "the log" if log.complete else "MANIFEST.json, which is written last" if done else "nothing",
    )
    assert log.complete or done or log.failed is None, f"the training failed: {log.failed}"
    assert log.complete or done, (
        "the log does not end with TRAINING COMPLETE, and no MANIFEST.json lists the outputs of as many steps"
    )


@pytest.mark.remedy("it is another training than the job file's: give the job file that fits; then: harness run {job}")
@pytest.mark.seed("vastai-training-agent.md", "rule 3")
def check_adopted_run_is_as_planned(posttrain: PosttrainFacts, job: Job, evidence: Evidence) -> None:
    """The log and run.json announced what the job file plans: the data's counts, model, adapter, steps.

    What the log does not say, because it was not kept from the beginning, run.json says.
    """
    log = evidence.saw("log", posttrain.log)
    run = evidence.saw("run.json", posttrain.run)
    assert run.exists, "there is no run.json"
    if not isinstance(run.json, dict):
        raise CouldNotLook("run.json is no JSON object")
    proof = job.data.proof
    silent = proof is not None and log.plan is not None and log.data is None
    assert not silent, f"the log announces a plan, and before it no line {proof.opening if proof else ''}"
    for what, told in (("rows", log.data), ("plan", log.plan)):
        evidence.note(f"{what} rest on", "run.json" if told is None else "the log")
    said = adopted.announced(job, log, run.json)
    evidence.note("announced", said)
    differing = [
        f"{where}: {name} is {said[where].get(name)!r}, planned {value!r}"
        for where, values in evidence.wants("announced", adopted.planned(job)).items()
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
    built = evidence.note("files with built rows", own_rows.built(log, run.json))
    if evidence.wants("allow_built_rows", job.data.allow_built_rows) and set(built) == set(job.data.files):
        return
    assert job.data.allow_built_rows or not built, f"the package built rows of {', '.join(built)}: they are not yours"
    other = own_rows.differing(evidence.saw("rows here", posttrain.rows_here), log, run.json)
    assert not other, "; ".join(other)
