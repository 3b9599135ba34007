"""The run ended, wholly and well."""

from __future__ import annotations

import re

import pytest

from harness.core.observed import CouldNotLook, Observed, unseen
from harness.facts import adopted, epochs
from harness.facts.posttrain import PosttrainFacts
from harness.job.model import Job
from harness.log import trainerstate
from harness.log.summary import RestsOn
from harness.log.trainerstate import TrainerState
from harness.plugin.looking import Evidence

_COMPLETION = re.compile(r"(COMPLETE|GGUF|Saved)")


@pytest.mark.remedy("harness logs {job}; train on there if it ended early (harness ssh {job}), then: harness run {job}")
@pytest.mark.seed("vastai-training-agent.md", "step 1")
def check_completion_logged(posttrain: PosttrainFacts, evidence: Evidence) -> None:
    """The log's end matches (COMPLETE|GGUF|Saved), or a trainer's own records end, and the status is 0."""
    found = evidence.saw("last lines of (COMPLETE|GGUF|Saved)", posttrain.completion)
    session = evidence.saw("session", posttrain.session)
    log = evidence.saw("log", posttrain.log)
    evidence.wants("exit status", 0)
    assert found.exists, "there is no training.log"
    by_contract = log.rests_on is RestsOn.CONTRACT
    said = not by_contract or any(_COMPLETION.search(match.text) for match in found.matches)
    assert said, "no line of completion"
    assert not session.alive, "the training still runs"
    assert session.exit_status == 0, f"it ended with status {session.exit_status}"
    end = "the log does not end with TRAINING COMPLETE" if by_contract else "not every trainer logged its end"
    assert log.complete, end


@pytest.mark.remedy("train on there from the newest complete checkpoint (harness ssh {job}), then: harness run {job}")
@pytest.mark.seed("vastai-training-agent.md", "rule 5")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "expected performance")
def check_all_steps_done(posttrain: PosttrainFacts, job: Job, evidence: Evidence) -> None:
    """Every trainer reached its last step."""
    log = evidence.saw("log", posttrain.log)
    wanted = job.training.steps
    evidence.wants("last steps", dict(wanted))
    if job.adopted and not all(log.of(trainer).complete for trainer in wanted):
        steps = evidence.note(
            "steps in MANIFEST.json", adopted.steps_in(evidence.saw("MANIFEST.json", posttrain.manifest).json)
        )
        assert steps == dict(wanted), "neither the log nor MANIFEST.json says that all steps were done"
        return
    for trainer, steps in wanted.items():
        complete = log.of(trainer).complete
        assert complete is not None, f"{trainer} did not say that it is complete"
        if not log.of(trainer).numbered:  # its records tell their order alone
            state = evidence.saw(f"{trainer} trainer_state.json", _state(posttrain, trainer))
            assert state.step == steps == state.max_steps, f"{trainer} saved step {state.step} of {state.max_steps}"
            continue
        assert (complete.step, complete.total) == (steps, steps), f"{trainer} ended at {complete.step}/{complete.total}"


@pytest.mark.remedy(
    "the model has not learned from all of your rows: mend steps or accumulation and train again; to take it as it is, "
    "say in the job file how few are meant: limits.min_epochs; then: harness run {job}"
)
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "expected performance")
def check_all_rows_trained(posttrain: PosttrainFacts, job: Job, evidence: Evidence) -> None:
    """The steps went through all rows of every trainer, by what it announced or by the epochs that it recorded."""
    log = evidence.saw("log", posttrain.log)
    evidence.wants("epochs, at least", job.limits.min_epochs)
    for trainer, rows in job.taught.items():
        said = log.of(trainer)
        if job.unmodified:
            state = posttrain.states[trainer].value if trainer in posttrain.states else None
            evidence.note(f"{trainer} epochs", (state and state.epochs, said.records and said.records.epochs))
            problem = epochs.recorded(job, trainer, said, state)
        else:
            told = epochs.rows_a_step(trainer, log, posttrain.run_json) or 0
            evidence.note(f"{trainer} epochs", round(job.training.steps[trainer] * told / rows, 3))
            problem = epochs.announced(job, trainer, log, posttrain.run_json)
        assert problem is None, problem


@pytest.mark.remedy(
    "the log is not the one that this training wrote, or something else wrote into it: look at training.log on the box"
    " (harness ssh {job}), put the training's own back, then: harness run {job}"
)
def check_log_is_of_this_run(posttrain: PosttrainFacts, job: Job, evidence: Evidence) -> None:
    """Every launch in the log is this job's, and the losses are those that each trainer's last checkpoint keeps."""
    log = evidence.saw("log", posttrain.log)
    if not job.adopted:
        launches = evidence.note("launches", log.launches)
        evidence.wants("launches of", job.name)
        assert launches, "no line of it says that this job launched it: it was put in the log's place"
        others = [str(one) for one in launches if one.job != job.name]
        assert not others, f"it holds another job's: {others[0]}"
    for trainer in job.trainers:
        state = evidence.saw(f"{trainer} trainer_state.json", _state(posttrain, trainer))
        problem = trainerstate.contradiction(log.of(trainer), state)
        assert problem is None, f"{trainer}: {problem}"


def _state(posttrain: PosttrainFacts, trainer: str) -> Observed[TrainerState]:
    return posttrain.states.get(trainer, unseen("its last checkpoint was not brought here"))


@pytest.mark.remedy("an adapter that never moved is the base model: do not ship it; look at requires_grad")
def check_adapters_are_trained(posttrain: PosttrainFacts, job: Job, evidence: Evidence) -> None:
    """Every tensor that the adapter's configuration makes in the base model is there, finite and trained."""
    adapter = evidence.saw("adapter", posttrain.adapter)
    rank = evidence.wants("rank", job.model.lora_r)
    assert not adapter.problems, "; ".join(adapter.problems[:3])
    assert adapter.rank == rank, f"rank {adapter.rank}"
    assert adapter.matrices > 0, "it holds no LoRA matrix"
    if adapter.doubts:
        raise CouldNotLook("; ".join(adapter.doubts[:3]))
