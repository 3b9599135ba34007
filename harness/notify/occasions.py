"""Notices that a job's events give rise to. Pure."""

from __future__ import annotations

from harness.core.text import human_bytes, printable
from harness.ledger.bills import bills, sentence
from harness.ledger.events import BudgetNear, Closed, Held, Verified
from harness.ledger.history import History
from harness.ledger.kinds import JobEvent
from harness.notify.targets import Notice, Occasion

_REASON = 800
"""Characters of a reason: it may list many checks."""


def notice(event: JobEvent, history: History, *, agreed: bool) -> Notice | None:
    """The notice that a recorded event is worth, None for most; ``agreed``: nobody is waited for before the release."""
    job = f"job {history.job.name}"
    match event:
        case Held(stage, _, reason):
            return _about(Occasion.HELD, f"{job} is held at {stage}", printable(reason, _REASON), history, why=False)
        case BudgetNear(spent, budget):
            told = f"${spent:.2f} of the budget of ${budget:.2f} are spent. At the cap the instance is stopped."
            return _about(Occasion.CAP_NEAR, f"{job} is near its cap", told, history)
        case Verified(path, size, sha256) if not agreed:
            told = f"{path}, {human_bytes(size)}, SHA-256 {sha256}"
            return _about(
                Occasion.READY, f"{job}: the model is home and verified, and waits for its release", told, history
            )
        case Closed():
            where = f"The model is {history.verified.path}. " if history.verified is not None else ""
            return _about(Occasion.CLOSED, f"{job} is closed", f"{where}The instance is proven to be gone.", history)
        case _:
            return None


def ended(history: History, by: str) -> Notice:
    """The command that drove a job was ended by the system, not by a person at the terminal."""
    job = history.job.name
    told = f"harness was ended by {by} while it worked on job {job}. harness run {job} goes on."
    return _about(Occasion.ENDED, f"job {job} goes on without harness", history.job.addressed(told), history)


def _about(occasion: Occasion, title: str, told: str, history: History, *, why: bool = True) -> Notice:
    bill = bills(history)
    return Notice(occasion, title, f"{told}\n{sentence(bill, why=why)}" if bill.may_bill else told)
