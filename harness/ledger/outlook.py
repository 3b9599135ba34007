"""Outlook of a job: what it has spent, what it will have spent at its end, and the cap. Pure.

Hours are counted at the rental's price; the traffic that is billed beside them is not in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.lifecycle import ORDER, Stage
from harness.core.money import usd
from harness.job.estimate import timeline
from harness.ledger import billing
from harness.ledger.history import History
from harness.log.pace import TrainingPace


@dataclass(frozen=True, slots=True)
class Outlook:
    """Money of a job (USD): spent until now, expected at its end, and the budget at which it is held.

    ``cap`` is None where nothing is billed at all.
    """

    spent: float
    projected: float
    cap: float | None


def outlook(history: History, now: float, pace: TrainingPace | None = None, age_s: float = 0.0) -> Outlook:
    """The outlook of a job; ``pace`` of its training as it was ``age_s`` seconds ago, where that is known."""
    spent = billing.spent(history, now) or 0.0
    price = history.rental.usd_per_hour if history.rental else history.job.most_usd_per_hour
    over = history.closed or history.destroyed is not None
    left = 0.0 if over else _left_s(history, now, pace, age_s)
    cap = history.job.limits.budget_usd if history.job.is_billed else None
    return Outlook(spent, spent + usd(left, price), cap)


def _left_s(history: History, now: float, pace: TrainingPace | None, age_s: float) -> float:
    """Seconds for which the instance is still needed, by the job file's figures and, where it trains, its own pace."""
    time, stage = timeline(history.job), history.stage
    home = time.download + time.evaluate
    if stage is None or _after(stage, Stage.POSTDOWNLOAD):
        return 0.0
    if _after(stage, Stage.TRAINING):
        return home
    if pace is not None and stage is Stage.TRAINING:
        return max(0.0, pace.left_s + time.export - age_s) + home
    since = history.launched_at if history.launched_at is not None else history.rental.at if history.rental else now
    passed = max(0.0, now - since)
    ahead = time.training if history.launched_at is not None else time.setup + time.training
    return max(0.0, ahead - passed) + home


def _after(stage: Stage, other: Stage) -> bool:
    return ORDER.index(stage) > ORDER.index(other)
