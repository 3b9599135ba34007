"""Training: how the run is getting on, looked at every few seconds and once more when it has ended."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness.context import JobContext
from harness.core.answers import BoxCheckpoint, Disk, Gpus, SessionState
from harness.core.observed import Observed, unseen
from harness.core.ports import PendingPrice
from harness.core.questions import CheckpointsIn, DiskOf, GpuList, SessionOf
from harness.facts import traininglog
from harness.facts.checkpoints import of_job, problems
from harness.facts.mirror import MIRROR, Mirrored, mirrored
from harness.facts.reading import ask, attempt, needed
from harness.job.model import Job
from harness.ledger import billing
from harness.log.pace import seconds_left, steps_left
from harness.log.summary import LogSummary


@dataclass(frozen=True, slots=True)
class Terms:
    """Terms of the rental, in USD an hour and seconds since the epoch; ``ends_at`` is None where no end is told.

    ``now`` is by the provider's clock where it tells the time; ``pending``: prices that are announced.
    """

    now: float
    usd_per_hour: float
    agreed_usd_per_hour: float
    ends_at: float | None
    pending: tuple[PendingPrice, ...] = ()


_GLANCED: Observed[Terms] = unseen("the rental was not looked at")


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """One look at a training. Durations in seconds; ``spent_usd`` is the paid time at the agreed price."""

    session: Observed[SessionState]
    log: Observed[LogSummary]
    log_age_s: Observed[float]
    last_lines: Observed[tuple[str, ...]]
    checkpoints: Mapping[str, Observed[tuple[BoxCheckpoint, ...]]]
    """By trainer, in the order in which they run."""
    mirror: Observed[tuple[Mirrored, ...]]
    gpus: Observed[Gpus]
    disk: Observed[Disk]
    since_launch_s: float
    spent_usd: float
    terms: Observed[Terms] = _GLANCED


def look(context: JobContext) -> TrainingFacts:
    """A glance, and the terms of the rental as the provider tells them now."""
    return replace(glance(context), terms=attempt(lambda: _terms(context)))


def glance(context: JobContext, before: TrainingFacts | None = None) -> TrainingFacts:
    """One probe, and the local mirror. Checkpoints found whole ``before`` are not read to their last byte again."""
    job = context.job
    directory = job.package.remote_dir
    now = context.clock.now()
    launched = context.history.launched_at
    since = now - launched if launched is not None else 0.0
    log = traininglog.questions(context)
    checkpoints = {
        trainer: CheckpointsIn(
            posixpath.join(directory, job.checkpoint_folder(trainer)),
            _whole(before.checkpoints.get(trainer) if before else None),
        )
        for trainer in job.trainers
    }
    answers = ask(
        context,
        session := SessionOf(directory),
        *checkpoints.values(),
        gpus := GpuList(),
        disk := DiskOf(directory),
        *log,
    )
    return TrainingFacts(
        session=answers[session],
        log=log.summary_of(answers, job),
        log_age_s=log.age_s(answers),
        last_lines=log.last_lines(answers),
        checkpoints={
            trainer: answers[question].map(lambda found: of_job(job, found))
            for trainer, question in checkpoints.items()
        },
        mirror=attempt(lambda: mirrored(context.directory / MIRROR, job.trainers)),
        gpus=answers[gpus],
        disk=answers[disk],
        since_launch_s=since,
        spent_usd=billing.spent(context.history, now) or 0.0,
    )


def steps_left_s(job: Job, log: LogSummary) -> float:
    """Seconds that the job's steps still to be done will take: at the pace of the log, else at the planned one."""
    return seconds_left(log, steps_left(log, job.training.steps), job.limits.s_per_step)


def _terms(context: JobContext) -> Terms:
    rental, provider = needed(context.history.rental, "no instance was rented"), context.provider()
    shown = needed(provider.instance(rental.instance_id), f"the provider shows no instance {rental.instance_id}")
    now = provider.account().at
    return Terms(
        now=context.clock.now() if now is None else now,
        usd_per_hour=shown.usd_per_hour,
        agreed_usd_per_hour=rental.usd_per_hour,
        ends_at=shown.ends_at,
        pending=provider.pending_prices(rental.instance_id),
    )


def _whole(before: Observed[tuple[BoxCheckpoint, ...]] | None) -> tuple[str, ...]:
    return tuple(one.seal for one in (before and before.value) or () if not problems(one))
