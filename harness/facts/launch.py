"""Launch: the first minutes of the training, when stopping still saves the money."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AliasChoices, Field

from harness.context import JobContext
from harness.core.observed import Observed
from harness.core.ports import Question
from harness.facts import traininglog
from harness.facts.box import JsonFile, Matches, Processes, Text
from harness.facts.reading import ask, json_text, typed
from harness.log.summary import LogSummary
from harness.remote.session import SessionState


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


def look(context: JobContext) -> LaunchFacts:
    """One probe."""
    directory = context.job.package.remote_dir
    launched = context.history.launched_at
    since = context.clock.now() - launched if launched is not None else 0.0
    questions = [
        Question("session", "session", {"directory": directory}),
        Question("processes", "processes", {"cwd_under": directory}),
        Question("run", "read_text", {"path": posixpath.join(directory, "run.json"), "limit": 1 << 20}),
        Question(
            "proof",
            "grep",
            {"path": traininglog.log_path(context), "pattern": re.escape(context.job.data.proof.opening), "last": 20},
        ),
        *traininglog.questions(context),
    ]
    answers = ask(context, questions)
    return LaunchFacts(
        session=typed(answers.get("session"), SessionState),
        log=traininglog.log_of(context, answers),
        log_age_s=traininglog.log_age_s(answers),
        proof=typed(answers.get("proof"), Matches),
        processes=typed(answers.get("processes"), Processes),
        run=json_text(typed(answers.get("run"), Text)),
        since_launch_s=since,
    )
