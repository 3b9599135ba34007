"""State of a job as JSON, for ``harness status --json``; docs/status.schema.json is its schema."""

from __future__ import annotations

import math
from typing import Final

from harness.core.canonical import Json
from harness.core.errors import LogDamaged
from harness.core.ids import JobName, plain
from harness.ledger import bills as billed
from harness.ledger.bills import Bills
from harness.ledger.history import History
from harness.ledger.looks import RecordedPace, recorded_pace
from harness.ledger.outlook import outlook

SCHEMA: Final = 1
"""Version of the row: a higher one when a key changes its meaning or goes; keys are added without."""


def row(history: History, now: float, *, forgotten: bool = False) -> dict[str, Json]:
    """State of a job; ``forgotten``: its folder tells of an instance that its log does not know."""
    rental, unresolved, seen = history.rental, history.unresolved, recorded_pace(history)
    doubt = history.in_doubt or (rental is None and forgotten)
    age_s = max(0.0, now - seen.at) if seen is not None else 0.0
    money = outlook(history, now, seen.pace if seen is not None else None, age_s)
    found = billed.bills(history, forgotten=forgotten)
    return {
        "schema": SCHEMA,
        "job": history.job.name,
        "stage": "closed" if history.closed else str(history.stage or "closing"),
        "gates": {"open": sum(map(history.passed, history.stages)), "of": len(history.stages)},
        "alive": None if doubt else history.alive is not None,
        "unresolved": unresolved.label if unresolved else None,
        "instance_id": plain(rental.instance_id) if rental else None,
        "usd_per_hour": rental.usd_per_hour if rental else None,
        "training": _training(seen, age_s) if seen is not None else None,
        "money": {"spent_usd": money.spent, "projected_usd": money.projected, "cap_usd": money.cap},
        "bills": _bills(found),
        "recorded_elsewhere": None,
        "held": history.held.reason if history.held else None,
        "verified": str(history.verified.path) if history.verified else None,
        "next": billed.next_command(history, found),
    }


def recorded_elsewhere(history: History) -> dict[str, Json]:
    """State of a job that ran on another machine, as of its last event: no command here ends what bills there."""
    at = history.records[-1].at
    bills = _bills(billed.bills(history)) | {"command": None, "at_once": None}
    return row(history, at) | {"bills": bills, "next": None, "recorded_elsewhere": at}


def unreadable(name: JobName, error: LogDamaged) -> dict[str, Json]:
    """State of a job whose log does not read."""
    told = _bills(billed.unaccounted(name))
    row: dict[str, Json] = {"schema": SCHEMA, "job": name, "stage": "unreadable", "alive": None, "bills": told}
    return {**row, "unreadable": str(error), "remedy": error.remedy}


def _training(seen: RecordedPace, age_s: float) -> dict[str, Json]:
    pace = seen.pace
    return {
        "step": pace.step,
        "total": pace.total,
        "left_s": max(0.0, pace.left_s - age_s),
        "trainer": pace.trainer,
        "loss": _finite(pace.loss),
        "learning_rate": _finite(pace.learning_rate),
        "seen_at": seen.at,
    }


def _finite(value: float | None) -> float | None:
    """JSON has no word for a loss that is nan."""
    return value if value is not None and math.isfinite(value) else None


def _bills(found: Bills) -> dict[str, Json]:
    return {
        "state": found.state,
        "usd_per_hour": found.usd_per_hour,
        "embedded": found.embedded,
        "command": found.command,
        "at_once": found.at_once,
        "told": found.brief,
    }
