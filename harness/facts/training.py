"""Training: how the run is getting on, looked at every few seconds and once more when it has ended."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from harness.context import JobContext
from harness.core.answers import BoxCheckpoint, Disk, Gpus, SessionState
from harness.core.observed import Observed
from harness.core.questions import CheckpointsIn, DiskOf, GpuList, SessionOf
from harness.facts import traininglog
from harness.facts.checkpoints import problems
from harness.facts.mirror import MIRROR, Mirrored, mirrored
from harness.facts.reading import ask, attempt
from harness.ledger import billing
from harness.log.summary import LogSummary


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """One look at a training. Durations in seconds; ``spent_usd`` is the paid time at the agreed price."""

    session: Observed[SessionState]
    log: Observed[LogSummary]
    log_age_s: Observed[float]
    last_lines: Observed[tuple[str, ...]]
    sft_checkpoints: Observed[tuple[BoxCheckpoint, ...]]
    dpo_checkpoints: Observed[tuple[BoxCheckpoint, ...]]
    mirror: Observed[tuple[Mirrored, ...]]
    gpus: Observed[Gpus]
    disk: Observed[Disk]
    since_launch_s: float
    spent_usd: float


def look(context: JobContext, before: TrainingFacts | None = None) -> TrainingFacts:
    """One probe, and the local mirror. Checkpoints found whole ``before`` are not read to their last byte again."""
    directory = context.job.package.remote_dir
    now = context.clock.now()
    launched = context.history.launched_at
    since = now - launched if launched is not None else 0.0
    log = traininglog.questions(context)
    answers = ask(
        context,
        session := SessionOf(directory),
        sft := CheckpointsIn(
            posixpath.join(directory, "models/output/sft"), _whole(before.sft_checkpoints if before else None)
        ),
        dpo := CheckpointsIn(
            posixpath.join(directory, "models/output/dpo"), _whole(before.dpo_checkpoints if before else None)
        ),
        gpus := GpuList(),
        disk := DiskOf(directory),
        *log,
    )
    return TrainingFacts(
        session=answers[session],
        log=log.summary_of(answers, context.job.data.proof),
        log_age_s=log.age_s(answers),
        last_lines=log.last_lines(answers),
        sft_checkpoints=answers[sft],
        dpo_checkpoints=answers[dpo],
        mirror=attempt(lambda: mirrored(context.directory / MIRROR)),
        gpus=answers[gpus],
        disk=answers[disk],
        since_launch_s=since,
        spent_usd=billing.spent(context.history, now) or 0.0,
    )


def _whole(before: Observed[tuple[BoxCheckpoint, ...]] | None) -> tuple[str, ...]:
    return tuple(one.seal for one in (before and before.value) or () if not problems(one))
