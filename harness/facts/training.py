"""Training: how the run is getting on, looked at every few seconds and once more when it has ended."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from harness.context import JobContext
from harness.core.observed import Observed
from harness.core.ports import Question
from harness.facts import traininglog
from harness.facts.box import BoxCheckpoint, Disk, Gpus
from harness.facts.mirror import MIRROR, Mirrored, mirrored
from harness.facts.reading import ask, attempt, typed
from harness.ledger import billing
from harness.log.summary import LogSummary
from harness.remote.session import SessionState


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


def look(context: JobContext) -> TrainingFacts:
    """One probe, and the local mirror."""
    directory = context.job.package.remote_dir
    now = context.clock.now()
    launched = context.history.launched_at
    since = now - launched if launched is not None else 0.0
    questions = [
        Question("session", "session", {"directory": directory}),
        Question("sft", "checkpoints", {"path": posixpath.join(directory, "models/output/sft")}),
        Question("dpo", "checkpoints", {"path": posixpath.join(directory, "models/output/dpo")}),
        Question("gpus", "gpus"),
        Question("disk", "disk", {"path": directory}),
        *traininglog.questions(context),
    ]
    answers = ask(context, questions)
    return TrainingFacts(
        session=typed(answers.get("session"), SessionState),
        log=traininglog.log_of(context, answers),
        log_age_s=traininglog.log_age_s(answers),
        last_lines=attempt(lambda: traininglog.last_lines(answers, 20)),
        sft_checkpoints=typed(answers.get("sft"), tuple[BoxCheckpoint, ...]),
        dpo_checkpoints=typed(answers.get("dpo"), tuple[BoxCheckpoint, ...]),
        mirror=attempt(lambda: mirrored(context.directory / MIRROR)),
        gpus=typed(answers.get("gpus"), Gpus),
        disk=typed(answers.get("disk"), Disk),
        since_launch_s=since,
        spent_usd=billing.spent(context.history, now) or 0.0,
    )
