"""Timings of a job's parts: what they took by its own log, and in earlier jobs like it. Pure.

A part that was interrupted (a hold, a stop, a second start) is no measure of the next one, and counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.job import estimate
from harness.job.forecast import Taken
from harness.job.model import Job
from harness.ledger import billing, events
from harness.ledger.codec import decode
from harness.ledger.history import History
from harness.ledger.kinds import JobEvent

LAST = 5
"""Earlier jobs that count: the newest ones."""
_BEGINS: Mapping[type[JobEvent | None], str] = {
    events.Rented: "setup",
    events.Launched: "training",
    events.Fetched: "verifying",
    events.EvaluationBegun: "evaluate",
}
_ENDS: Mapping[type[JobEvent | None], str] = {
    events.Launched: "setup",
    events.Trained: "training",
    events.GateJudged: "verifying",
    events.Evaluated: "evaluate",
}
_BREAKS = (events.Held, events.InstanceStopped, events.TrainingStopped, events.Relaunched)


def alike(then: Job, job: Job) -> bool:
    """True when an earlier job's times are a measure of this one's: the same provider, GPUs, model and rows a step."""
    return not then.adopted and _shape(then) == _shape(job)


def _shape(job: Job) -> tuple[object, ...]:
    rows_a_step = [job.training.rows_a_step(trainer) for trainer in job.trainers]
    return job.provider.kind, job.machine.gpu, job.machine.gpus, job.model, rows_a_step


def known(job: Job, own: History | None, earlier: Iterable[History], board: tuple[str, int]) -> Mapping[str, Taken]:
    """Seconds of each part that is known: as this very job took before, else the middle of the earlier ones alike.

    ``earlier``: the newest first. ``board``: name and number of the GPUs; what ran on others is left out.
    """
    like = [one for one in earlier if alike(one.job, job) and _board(one) == board]
    took = [_took(one, job) for one in like[:LAST]]
    found: dict[str, Taken] = {}
    for part in ("setup", "training", "download", "evaluate"):
        seconds = [one[part] for one in took if part in one]
        if seconds:
            jobs = "1 job" if len(seconds) == 1 else f"{len(seconds)} jobs"
            found[part] = Taken(sorted(seconds)[len(seconds) // 2], f"own history ({jobs})")
    if own is not None:
        found |= {part: Taken(seconds, "measured in this job") for part, seconds in _took(own, job).items()}
    return found


def _board(history: History) -> tuple[str, int]:
    """GPUs of the instance that the job had last."""
    offer = history.rental.offer if history.rental is not None else {}
    return offer.get("gpu_name", ""), offer.get("num_gpus", 0)


def _took(history: History, job: Job) -> dict[str, float]:
    """Seconds of each part that is known, as it would be with ``job``'s steps and sizes."""
    spans, rate = _spans(history), billing.download_rate(history)
    took: dict[str, float] = {part: spans[part] for part in ("setup", "evaluate") if part in spans}
    if "training" in spans and not history.all(events.Resumes):
        took["training"] = spans["training"] * _steps(history.job, job)
    if rate is not None:
        took["download"] = estimate.artifact_bytes(job) / rate + spans.get("verifying", 0.0)
    return took


def _spans(history: History) -> dict[str, float]:
    """Seconds of each span that went through from its first event to its last, the newest of each."""
    began: dict[str, float] = {}
    spans: dict[str, float] = {}
    for record in history.records:
        at, event = record.at, decode(record)
        if isinstance(event, _BREAKS):
            began.clear()
        ends, begins = _ENDS.get(type(event), ""), _BEGINS.get(type(event))
        if ends in began and _goes_well(event):
            since = began.pop(ends)
            told = event.at if isinstance(event, events.Trained) else at  # by the box's clock, where that can be
            spans[ends] = (told if since <= told <= at else at) - since
        if begins is not None:
            began[begins] = at
    return spans


def _goes_well(event: JobEvent | None) -> bool:
    match event:
        case events.GateJudged():
            return event.stage is Stage.POSTDOWNLOAD and event.verdict is Verdict.PASS
        case events.Evaluated():
            return event.problem is None
        case _:
            return True


def _steps(then: Job, job: Job) -> float:
    """The training of ``job`` as a share of an earlier one's, by the steps of each."""
    planned = estimate.timeline(job.model_copy(update={"training": then.training})).training
    return estimate.timeline(job).training / planned if planned > 0 else 1.0
