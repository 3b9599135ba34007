"""Paid time by what it was spent on: each billed moment belongs to one part, the one that was waited for. Pure.

An event ends one part and begins the next. What goes on beside that (a download beside an installation) costs nothing
of its own, and is counted only as far as it was waited for. All parts together are what was paid. What
nobody watched counts for the part that was seen last.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from harness.core.lifecycle import Stage
from harness.ledger import billing, events, noted
from harness.ledger.billing import PaidSpan
from harness.ledger.chain import Record
from harness.ledger.codec import decode
from harness.ledger.kinds import JobEvent

EXPORT = "export"
STOPPED = "stopped, the disk alone"
_BEFORE = "before it was taken over"
_WAITING = "waiting for a person"
_BACK = "giving back"
_LOADING = "launch and loading"
_EVALUATION = "evaluation"
_BOOT = "renting and boot"
_UNSEEN = "ended, not seen yet"

_STAGES: Mapping[Stage, str] = {
    Stage.PREFLIGHT: "preflight, once more",
    Stage.PROVISION: _BOOT,
    Stage.UPLOAD: "upload",
    Stage.INSTALL: "install",
    Stage.LAUNCH: _LOADING,
    Stage.TRAINING: _LOADING,
    Stage.POSTTRAIN: "hashing on the box",
    Stage.POSTDOWNLOAD: "download",
    Stage.TEARDOWN: _BACK,
}
_BEGINS: Mapping[type[JobEvent], str] = {
    events.Rented: _BOOT,
    events.Adopted: _BOOT,
    events.InstanceStarted: _BOOT,
    events.Installed: "base model",
    noted.BaseFetched: "readiness",
    events.Launched: _LOADING,
    events.Relaunched: _LOADING,
    events.TrainingStopped: _WAITING,
    events.InstanceStopped: _WAITING,
    events.ArtifactRecorded: "companions",
    events.Fetched: "verifying",
    events.EvaluationBegun: _EVALUATION,
    events.Released: _WAITING,
    events.Confirmed: _BACK,
}
_STARTS = (events.Launched, events.Relaunched)
_ENDS: Final[tuple[type[JobEvent], ...]] = (
    events.Trained,
    events.TrainingStopped,
    events.InstanceStopped,
    events.Rented,
    events.Adopted,
)
_TOLD: Final[tuple[type[JobEvent], ...]] = (noted.AtWork, events.Evaluated, events.Held, events.StageEntered)
_KINDS = {kind.kind for kind in (*_BEGINS, *_ENDS, *_TOLD)}


@dataclass(frozen=True, slots=True)
class PaidPart:
    """Seconds and USD that went on one part, in the order of a job; ``running`` unless only the disk was billed."""

    name: str
    seconds: float
    usd: float
    running: bool = True


def parts(records: Sequence[Record], spans: Sequence[PaidSpan]) -> tuple[PaidPart, ...]:
    """Parts of the paid ``spans``; those of one name are one, where it came first."""
    marks = [(-math.inf, _BEFORE), *_marks(records), (math.inf, "")]
    found: dict[tuple[str, bool], tuple[float, float]] = {}
    for (start, name), (end, _) in pairwise(marks):
        for span in spans:
            seconds = billing.seconds_within([span], start, end, stopped=span.stopped)
            if seconds > 0:
                key = (STOPPED, False) if span.stopped else (name, True)
                before = found.get(key, (0.0, 0.0))
                found[key] = before[0] + seconds, before[1] + billing.usd_within([span], start, end)
    return tuple(PaidPart(name, *took, running) for (name, running), took in found.items())


def _marks(records: Sequence[Record]) -> Iterator[tuple[float, str]]:
    """Times, none before the one before it, with the part that begins there.

    A training runs on while a command of this tool is held, or none is there.
    """
    at, part, trains = -math.inf, "", False
    for record in records:
        if record.kind not in _KINDS:
            continue
        event, since = decode(record), max(at, record.at)
        match event:
            case events.Trained() if trains:
                since, begins = max(at, min(event.at, record.at)), _UNSEEN
            case noted.AtWork(part=what):
                begins = what if what == EXPORT else f"training: {what}"
            case events.StageEntered(stage):
                begins = part if trains and stage is Stage.TRAINING else _STAGES[stage]
            case events.Held():
                begins = part if trains else _WAITING
            case events.Evaluated():
                begins = _BACK if part == _EVALUATION else part
            case None:
                begins = part
            case _:
                begins = _BEGINS.get(type(event), part)
        trains = isinstance(event, _STARTS) or (trains and not isinstance(event, _ENDS))
        if begins != part:
            at, part = since, begins
            yield at, part
