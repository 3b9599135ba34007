"""Timings of a job's parts: what they took by its own log, and in earlier jobs like it. Pure.

A part that was interrupted (a hold, a stop, a second start) is no measure of the next one, and counts for nothing.
The parts are those of the forecast; what a person was waited for is in none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.job import benchmarked, estimate, layouts
from harness.job.forecast import PROFILE, Taken
from harness.job.layouts import GpuLayout
from harness.job.model import Job
from harness.ledger import billing, events, noted
from harness.ledger.codec import decode
from harness.ledger.history import History
from harness.ledger.kinds import JobEvent
from harness.ledger.paid_parts import EXPORT

LAST = 5
"""Earlier jobs that count: the newest ones."""
_TRAINING = ("load", "steps", "export")
_BREAKS: tuple[type[JobEvent], ...] = (
    events.Held,
    events.InstanceStopped,
    events.TrainingStopped,
    events.Relaunched,
)
_BOUNDS: Mapping[type[JobEvent], tuple[tuple[str, ...], tuple[str, ...]]] = {
    events.Rented: ((), ("setup",)),
    events.Launched: (("setup",), ("training", "load")),
    events.Trained: (("training", EXPORT), ("download",)),
    events.EvaluationBegun: ((), ("evaluate",)),
    events.Evaluated: (("evaluate",), ("release",)),
    events.Released: (("release",), ()),
    events.Confirmed: ((), ("destroy",)),
    events.DestroyRequested: (("destroy",), ()),
}
"""Spans that an event of each kind ends, and those that begin with it."""
_KINDS: tuple[type[JobEvent], ...] = (*_BREAKS, *_BOUNDS, noted.AtWork, events.GateJudged)
_TOLD = {kind.kind for kind in _KINDS}


def alike(then: Job, job: Job) -> bool:
    """True when an earlier job's times are a measure of this one's: the same provider, model and rows a step."""
    return not then.adopted and _shape(then) == _shape(job)


def _shape(job: Job) -> tuple[object, ...]:
    rows_a_step = [(trainer, job.training.rows_a_step(trainer)) for trainer in job.trainers]
    return job.provider.kind, job.training.accelerator, job.model, rows_a_step


def known(asked: Job, job: Job, own: History | None, earlier: Iterable[History], gpu: str) -> Mapping[str, Taken]:
    """Seconds of each part that is known: as this very job took before, else the middle of the earlier ones alike.

    ``asked``: the job as its file asks for it, whose seconds a step are its. ``job``: as it is to be trained, on an
    offer's ``gpu``. ``earlier``: the newest first; those that ran so go before all others, which steps are reckoned by.
    """
    wanted = layouts.layout(job, gpu)
    like = [one for one in earlier if alike(one.job, job)]
    same = [_took(one, job) for one in like if layout(one).same(wanted)][:LAST]
    others = [one for one in like if not layout(one).same(wanted)][:LAST]
    found = _middle([_took(one, job) for one in others], job, " on other GPUs")
    exact = _middle(same, job)
    if "steps" not in exact and (steps := _reckoned(asked, job, wanted, others)) is not None:
        exact["steps"] = steps
    found |= exact
    if own is not None and alike(own.job, job) and (own.rental is None or layout(own).same(wanted)):
        taken = _middle([_took(own, job)], job)
        found |= {part: Taken(one.seconds, "measured in this job") for part, one in taken.items()}
    return found


def _middle(took: Iterable[Mapping[str, float]], job: Job, where: str = "") -> dict[str, Taken]:
    """The median of each part that any of these jobs tells, and how many do.

    The training is the median of the whole; its parts are in the proportion of those jobs that tell them, else of the
    plan.
    """
    told: dict[str, list[float]] = {}
    for one in took:
        for part, seconds in one.items():
            told.setdefault(part, []).append(seconds)
    found = {
        part: Taken(sorted(each)[len(each) // 2], f"own history ({len(each)} job{'s' * (len(each) > 1)}{where})")
        for part, each in told.items()
    }
    whole = found.pop("training", None)
    if whole is not None:
        parts = [found[part].seconds for part in _TRAINING] if "steps" in found else _planned(job)
        share = whole.seconds / sum(parts) if sum(parts) > 0 else 0.0
        found |= {part: Taken(seconds * share, whole.source) for part, seconds in zip(_TRAINING, parts, strict=True)}
    return found


def _planned(job: Job) -> tuple[float, float, float]:
    time = estimate.timeline(job)
    return time.load, sum(time.steps.values()), time.export


def _reckoned(asked: Job, job: Job, wanted: GpuLayout, others: Sequence[History]) -> Taken | None:
    """The steps of a layout in which no earlier job ran; None where no speed is known of its GPUs.

    By the first that was measured of: earlier jobs, the benchmarks that came with this harness, the job file. One of
    the same strategy on as many GPUs goes before all others.
    """
    ran: dict[GpuLayout, list[Mapping[str, float]]] = {}
    for one in others:
        ran.setdefault(layout(one), []).append(_took(one, job))
    measured = [
        *((where, taken) for where, took in ran.items() if (taken := _middle(took, job).get("steps")) is not None),
        *((where, Taken(seconds, source)) for where, seconds, source in benchmarked.steps(job)),
        (layouts.layout(asked), Taken(_planned(job)[1], PROFILE)),
    ]
    for where, taken in sorted(measured, key=lambda one: not one[0].like(wanted)):
        slower = wanted.slower(where)
        if slower is not None:
            said = "" if where.same(wanted) else f" x {slower:.2g}, from {where}"
            return Taken(taken.seconds * slower, f"{taken.source}{said}")
    return None


def layout(history: History) -> GpuLayout:
    """GpuLayout on the GPUs of the instance that the job had last, by the strategy that was settled there."""
    offer = history.rental.offer if history.rental is not None else {}
    used = history.strategy.used if history.strategy is not None else layouts.SEEDS.name
    return layouts.layout(history.job, str(offer.get("gpu_name", "")), used=used)


def _took(history: History, job: Job) -> dict[str, float]:
    """Seconds of each part that is known, as it would be with ``job``'s steps and sizes."""
    seen, rate = spans(history), billing.download_rate(history)
    took: dict[str, float] = {part: seen[part] for part in ("setup", "evaluate", "closing") if part in seen}
    then = job.model_copy(update={"training": history.job.training})
    if "training" in seen and not history.all(events.Resumes):
        if told := set(_TRAINING) <= set(seen):
            took |= {part: seen[part] for part in _TRAINING}
            took["steps"] *= _planned(job)[1] / _planned(then)[1]
        share = estimate.timeline(job).training / estimate.timeline(then).training
        took["training"] = sum(took[part] for part in _TRAINING) if told else seen["training"] * share
    if rate is not None and history.artifact is not None:
        came = history.artifact.size / rate
        took["download"] = estimate.artifact_bytes(job) / rate + max(0.0, seen.get("download", came) - came)
    return took


def spans(history: History) -> dict[str, float]:
    """Seconds of each span that went through from its first event to its last, the newest of each.

    ``training`` is ``load``, ``steps`` and ``export`` together: a short part of it may not have been seen.
    """
    began: dict[str, float] = {}
    took: dict[str, float] = {}
    for record in history.records:
        if record.kind not in _TOLD:
            continue
        at, event = record.at, decode(record)
        if isinstance(event, _BREAKS):
            began.clear()
        if isinstance(event, events.Launched):
            took = {part: seconds for part, seconds in took.items() if part not in _TRAINING}
        ends, begins = _bounds(event)
        if isinstance(event, events.Trained):  # by the box's clock, where that can be
            at = event.at if began.get("training", at) <= event.at <= at else at
        for name in ends:
            if name in began:
                took[name] = max(0.0, at - began.pop(name))
        began |= {name: at for name in begins if name != "steps" or name not in began}
    closing = [took[part] for part in ("release", "destroy") if part in took]
    return took | ({"closing": sum(closing)} if len(closing) == 2 else {})


def _bounds(event: JobEvent | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The spans that an event ends, and those that begin with it."""
    match event:
        case noted.AtWork(part=part):
            return (("steps",), (EXPORT,)) if part == EXPORT else (("load",), ("steps",))
        case events.GateJudged():
            ended = event.stage is Stage.POSTDOWNLOAD and event.verdict is Verdict.PASS
            return (("download",), ("release",)) if ended else ((), ())
        case events.Evaluated(problem=str()):
            return (), ("release",)
        case None:
            return (), ()
        case _:
            return _BOUNDS.get(type(event), ((), ()))
