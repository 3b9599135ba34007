"""Everything of a job that bills while nobody looks after it, and what ends before the job does. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.core.ports import Instance
from harness.core.text import human_seconds
from harness.job import estimate
from harness.ledger.bills import Billing, as_listed, bills, sentence
from harness.ledger.codec import decode
from harness.ledger.events import InstanceStopped
from harness.ledger.history import History

_SILENT_S = 600.0
"""Seconds without an event after which a job that no process has is left alone: every command records more often."""
_SOON_S = 24 * 3600.0
"""Seconds before a rental's end in which it is said of a job that nobody works on."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """One thing to say; ``key`` is the same as long as it is the same thing."""

    key: str
    told: str


def of_job(
    history: History, shown: Instance | None, now: float, *, listed: bool, worked_on: bool, after_s: float
) -> Iterator[Forgotten]:
    """Everything of one job that is to be remembered at ``now``.

    ``listed``: the provider's complete list was had; ``shown`` is the instance in it. ``worked_on``: a process of this
    machine has the job. A stopped instance is remembered ``after_s`` seconds after it was stopped, one that runs
    although the log says that it was stopped at once.
    """
    logged, job = bills(history), history.job.name
    if not logged.may_bill:
        return
    bill = as_listed(logged, shown) if listed else logged
    quiet, since = now - history.records[-1].at, now - _stopped_at(history)
    if worked_on:
        pass
    elif bill.state is Billing.STOPPED:
        if since >= after_s:
            said = "" if logged.state is Billing.STOPPED else " The provider shows it as stopped."
            told = f"job {job}: its instance stands still for {human_seconds(since)}.{said} {sentence(bill)}"
            yield Forgotten(f"{job} stopped", told)
    elif logged.state is Billing.STOPPED and shown is not None:
        told = f"job {job}: its instance was stopped, and the provider shows it as {shown.status}. {sentence(bill)}"
        yield Forgotten(f"{job} {bill.state}", told)
    elif quiet >= _SILENT_S:
        told = f"job {job}: no process here works on it, for {human_seconds(quiet)}. {sentence(bill)}"
        yield Forgotten(f"{job} {bill.state}", told)
    if shown is not None and shown.ends_at is not None:
        left, needed = shown.ends_at - now, estimate.timeline(history.job).total if worked_on else _SOON_S
        if left < needed:
            when = f"ends in {human_seconds(left)}" if left > 0 else "has ended"
            lost = f"the rental of instance {shown.id} {when}; what is on its disk goes with it"
            told = f"job {job}: {lost}. {sentence(bill)}"
            yield Forgotten(f"{job} ends", told)


def _stopped_at(history: History) -> float:
    """Time of the last stop that the log knows, else of its last event."""
    stops = [record.at for record in history.records if isinstance(decode(record), InstanceStopped)]
    return stops[-1] if stops and history.instance_stopped else history.records[-1].at
