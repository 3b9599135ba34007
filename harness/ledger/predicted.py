"""Predicted against taken: the forecast that was agreed to beside what the log tells of each part. Pure.

ForetoldPart is the forecast of the very offer that was rented, and each part that went through on that instance.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from harness.ledger import events, timings
from harness.ledger.codec import decode
from harness.ledger.history import History

IN_ALL: Final = "in all"
_ROWS: Final = (
    ("setup", "setup", ("boot and install", "base download")),
    ("load", "loading", ("loading",)),
    ("steps", "training", ("training",)),
    ("export", "export", ("export",)),
    ("training", "loading, training and export", ("loading", "training", "export")),
    ("download", "download home", ("download home",)),
    ("evaluate", "evaluation", ("evaluation",)),
    ("closing", "giving back", ("giving back",)),
)
"""A span of ``timings.spans``, its name here, and the parts of the forecast that it is the time of."""
_APART: Final = frozenset({"load", "steps", "export"})
_LEAST_S: Final = 0.5
"""A part of less, foretold and taken, is told as nothing."""


@dataclass(frozen=True, slots=True)
class ForetoldPart:
    """Seconds of a part (or of all that went through) as predicted and as taken; ``source`` of the prediction."""

    name: str
    predicted: float
    took: float
    source: str = ""

    @property
    def error(self) -> float:
        """Distance of the prediction from what was taken, as a share of that; of nothing, half a second."""
        return abs(self.predicted - self.took) / max(self.took, _LEAST_S)


def compared(history: History) -> tuple[ForetoldPart, ...]:
    """The parts that went through, in order, and all of them together; none where no forecast was agreed to."""
    agreed, spans = agreement(history), timings.spans(history)
    if agreed is None or history.all(events.Resumes):
        return ()
    told = {part["name"]: part for part in agreed}
    left_out = {"training"} if set(spans) >= _APART else _APART  # the parts, where all of them were seen
    found = []
    for span, name, names in _ROWS:
        parts = [told[one] for one in names if one in told]
        foretold, took = sum(part["seconds"] for part in parts), spans.get(span)
        if took is not None and span not in left_out and max(foretold, took) >= _LEAST_S:
            found.append(ForetoldPart(name, foretold, took, parts[0]["source"] if parts else "not foretold"))
    if found:
        found.append(
            ForetoldPart(IN_ALL, sum(one.predicted for one in found), sum(one.took for one in found), "all of these")
        )
    return tuple(found)


def agreement(history: History) -> tuple[Mapping[str, Any], ...] | None:
    """The parts that were foretold of the offer that was rented last; None where none were recorded."""
    kinds = (events.PlanAgreed.kind, events.Rented.kind)
    agreed, found = None, None
    for event in (decode(record) for record in history.records if record.kind in kinds):
        if isinstance(event, events.PlanAgreed):
            agreed = event
        elif isinstance(event, events.Rented) and agreed is not None:
            shown = zip(agreed.offers, agreed.forecasts, strict=False)
            found = next((_parts(one) for offer, one in shown if offer.get("id") == event.offer.get("id")), None)
    return found


def _parts(told: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The parts of a recorded forecast; none where another version of the harness wrote them otherwise."""
    parts = told.get("parts")
    found = tuple(parts) if isinstance(parts, list | tuple) else ()
    read = all(
        isinstance(one, Mapping) and type(one.get("seconds")) in {int, float} and {"name", "source"} <= one.keys()
        for one in found
    )
    return found if read else ()


def errors(earlier: Iterable[History]) -> Mapping[str, tuple[float, int]]:
    """The middle error of each part in these jobs, and in all, with the number of jobs that tell it."""
    found: dict[str, list[float]] = {}
    for one in earlier:
        for part in compared(one):
            found.setdefault(part.name, []).append(part.error)
    return {name: (sorted(each)[len(each) // 2], len(each)) for name, each in found.items()}
