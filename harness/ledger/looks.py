"""Looks at a job's training by its log: whether there is a box to ask, and the newest look that was written down."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.core.errors import BadInput
from harness.core.lifecycle import Stage
from harness.gates.facts_file import FactsFile, read_facts
from harness.ledger.events import GateJudged, Polled
from harness.ledger.history import History
from harness.log.pace import TrainingPace, pace
from harness.log.summary import LogSummary

_LOOKS = frozenset({Polled.kind, GateJudged.kind})


@dataclass(frozen=True, slots=True)
class RecordedPace:
    """Progress of a training as it was seen at ``at`` (seconds since the epoch)."""

    at: float
    pace: TrainingPace


def no_box(history: History) -> str | None:
    """Reason why there is no box to ask; None when there is one."""
    if history.alive is None:
        return "no instance of this job is alive"
    if history.instance_stopped:
        return f"instance {history.alive.instance_id} is stopped"
    return None if history.pin is not None else f"instance {history.alive.instance_id} is not ready yet"


def newest_look(history: History) -> FactsFile | None:
    """The facts of the newest look at this instance's training; None when there was none, or its file does not read."""
    looks = (one for one in reversed(history.records) if one.kind in _LOOKS and one.data["stage"] == Stage.TRAINING)
    newest = next(looks, None)
    if newest is None or history.rental is None or newest.at < history.rental.at:
        return None
    try:
        return read_facts(Path(history.here(str(newest.data["facts_path"]))))
    except BadInput:
        return None


def recorded_pace(history: History) -> RecordedPace | None:
    """Progress of a training that is under way, by the newest look at it."""
    file = newest_look(history) if history.stage is Stage.TRAINING and history.launches else None
    log: Any = (file.facts.get("log") or {}).get("value") if file is not None else None
    if file is None or log is None:
        return None
    try:
        seen = pace(_summaries().validate_python(log), history.job.training.steps, history.job.limits.s_per_step)
    except ValidationError:
        return None
    return RecordedPace(file.taken_at, seen) if seen is not None else None


@cache
def _summaries() -> TypeAdapter[LogSummary]:
    return TypeAdapter(LogSummary)
