"""Foot of a run's screen: what is spent and grows, what is home, and what Ctrl-C would leave behind. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.money import usd
from harness.ledger.bills import Billing, Bills, bills
from harness.ledger.events import CheckpointMirrored
from harness.ledger.history import History


@dataclass(frozen=True, slots=True)
class Foot:
    """Two lines as they are true at one moment; ``spent`` (USD) grows from there by ``usd_per_hour``.

    ``cap`` is None where nothing is billed at all.
    """

    spent: float
    usd_per_hour: float
    cap: float | None
    bills: str
    home: str
    leaves: str

    def lines(self, seconds: float) -> tuple[str, str]:
        """The lines so many seconds later."""
        spent = self.spent + usd(seconds, self.usd_per_hour)
        money = "" if self.cap is None else f"${spent:.2f} spent of ${self.cap:.2f}; "
        return f"{money}{self.bills}", f"{self.home}; Ctrl-C {self.leaves}"


def of(history: History, spent: float | None) -> Foot:
    """Foot of a job of which so much is spent (USD); nothing where nothing was rented yet."""
    found = bills(history)
    growing = found.usd_per_hour if found.state is Billing.RUNNING else None
    cap = history.job.limits.budget_usd if history.job.is_billed else None
    return Foot(spent or 0.0, growing or 0.0, cap, found.brief, _home(history), _leaves(found))


def _home(history: History) -> str:
    if history.verified is not None:
        return "the verified model is home"
    mirrored = history.all(CheckpointMirrored)
    if mirrored:
        return f"home: {mirrored[-1].trainer} step {mirrored[-1].step}, not the model yet"
    return "nothing of the training is home yet" if history.launches else "no training has begun"


def _leaves(found: Bills) -> str:
    if not found.may_bill:
        return "stops it here, and nothing bills"
    running = "running" if found.own else "running and billing"
    return f"leaves it {running}; {found.command} goes on" if found.command else "leaves it as it is"
