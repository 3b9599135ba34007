"""Outline of a log: the few of its events that say where a job stands, what it costs and what of it may bill. Pure.

A row of the list of all jobs is the same by the outline as by the whole log, and so is what the limits count.
"""

from __future__ import annotations

from typing import Final

from harness.ledger import billing, events, noted, settled

ASIDE: Final = frozenset(
    kind.kind
    for kind in (
        events.Staged,
        events.PlanAgreed,
        events.PlanRefused,
        events.Pinned,
        events.Resumes,
        events.Uploaded,
        events.Installed,
        events.CheckpointMirrored,
        events.Trained,
        events.ArtifactRecorded,
        events.Fetched,
        events.EvaluationBegun,
        events.Evaluated,
        events.Released,
        events.Confirmed,
        events.Guarded,
        events.TrainingStopped,
        events.BudgetNear,
        events.LossAccepted,
        noted.ImageHad,
        noted.BaseFetched,
        noted.AtWork,
        settled.StrategySettled,
    )
)
"""Kinds that are no part of it. Of any other, and of one that is not known here, the newest event is."""
WHOLE: Final = billing.COUNTED | {events.RentIntended.kind}
"""Kinds of which each event is: what was paid for, and under which labels."""

_JUDGED = frozenset({events.GateJudged.kind, events.Polled.kind})
_BEGINS, _ENDS = '"result":{', '},"stage":'
"""Bounds of a gate's result in the one spelling of what is stored: a quote inside a text is escaped there."""


def brief(kind: str, text: str) -> str:
    """The data of an event, as it is stored, without what single checks said: nine tenths of a log."""
    begins, ends = text.find(_BEGINS) + len(_BEGINS), text.rfind(_ENDS)
    return text[:begins] + text[ends:] if kind in _JUDGED and len(_BEGINS) <= begins <= ends else text
