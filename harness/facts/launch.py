"""Launch: the first minutes of the training, when stopping still saves the money."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import AliasChoices, Field

from harness.context import JobContext
from harness.core.answers import BoxCheckpoint, JsonFile, Matches, Processes, SessionState
from harness.core.ids import Sha256
from harness.core.observed import Observed, unseen
from harness.core.questions import CheckpointsIn, Grep, ProcessesUnder, ReadText, SessionOf
from harness.facts import own_rows, run_file, strategy, traininglog
from harness.facts.reading import ask, json_text
from harness.job.strategy import SEEDS
from harness.ledger.settled import StrategySettled
from harness.log.summary import LogSummary

_NOT_ASKED: Observed[tuple[BoxCheckpoint, ...]] = unseen("this look did not look for checkpoints")


@dataclass(frozen=True, slots=True)
class LaunchFacts:
    """One look at a training that was just started. ``since_launch_s`` counts by the operator's clock."""

    session: Observed[SessionState]
    log: Observed[LogSummary]
    log_age_s: Observed[float]
    proof: Annotated[Observed[Matches], Field(validation_alias=AliasChoices("proof", "integration"))]
    """Lines with the opening words of the job's proof line. In facts files of earlier versions: integration."""
    processes: Observed[Processes]
    run: Observed[JsonFile]
    since_launch_s: float
    rows_here: Observed[Mapping[str, Sha256]] = own_rows.NOT_LOOKED_AT
    checkpoints: Observed[tuple[BoxCheckpoint, ...]] = _NOT_ASKED
    """Of an unmodified trainer, whose processes may be gone: they tell how many it had."""
    strategy: Observed[StrategySettled] = field(default_factory=lambda: unseen("the job states none"))

    @property
    def used(self) -> str:
        """Strategy that the training was launched by, as far as one was settled."""
        return self.strategy.value.used if self.strategy.value is not None else SEEDS


def look(context: JobContext) -> LaunchFacts:
    """One probe."""
    directory = context.job.package.remote_dir
    launched = context.history.launched_at
    since = context.clock.now() - launched if launched is not None else 0.0
    log, line = traininglog.questions(context), context.job.data.proof
    proof = [Grep(traininglog.log_path(context), re.escape(line.opening), last=20)] if line is not None else []
    first = CheckpointsIn(posixpath.join(directory, context.job.checkpoint_folder(context.job.trainers[0])), ())
    saved = [first] if context.job.unmodified else []
    answers = ask(
        context,
        session := SessionOf(directory),
        *saved,
        processes := ProcessesUnder(directory),
        run := ReadText(posixpath.join(directory, "run.json"), limit=run_file.MAX_BYTES),
        *proof,
        *log,
    )
    return LaunchFacts(
        session=answers[session],
        log=log.summary_of(answers, context.job),
        log_age_s=log.age_s(answers),
        proof=answers[proof[0]] if proof else unseen("the job states no proof line"),
        processes=answers[processes],
        run=json_text(answers[run]),
        since_launch_s=since,
        rows_here=own_rows.look(context),
        checkpoints=answers[first] if saved else _NOT_ASKED,
        strategy=strategy.look(context.history),
    )
