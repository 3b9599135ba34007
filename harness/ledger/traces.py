"""Traces of one job in the provider's lists: what may be its own is told by label, creation time and machine. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.ids import is_label_of, may_be_label_of
from harness.core.ports import Instance, Volume
from harness.core.text import printable
from harness.ledger.history import History
from harness.ledger.ownership import Known
from harness.ledger.two_clocks import TwoClocks

_APART_S = 120.0
"""Seconds by which an instance may seem older than the rent that it came of: clocks differ, a start is rounded."""


@dataclass(frozen=True, slots=True)
class Traces:
    """Everything by which what is listed is held against a job: its own log, and those of all jobs here."""

    history: History
    known: Known
    now: TwoClocks

    def labelled(self, label: str | None) -> bool:
        """True for a whole label of this job: one that its log knows, or that no other job's can be."""
        return label in self.history.labels or is_label_of(label, self.history.job.name)

    def doubt(self, one: Instance | Volume) -> str | None:
        """Reason why something without such a label may still be this job's: no proof of it, and no ground to rent.

        A label that was cut short, or an instance without any that appeared on the machine of a rent whose outcome is
        not known. What another job's log accounts for is only that job's.
        """
        job, what = self.history.job, "volume"
        if isinstance(one, Volume):
            settled = one.id in job.provider.kept_volumes
        else:
            what, claim = "instance", self.known.instances.get(one.id)
            settled = claim is not None and claim.job != job.name
        if settled:
            return None
        if may_be_label_of(one.label, job.name):
            bears = printable(one.label or "", 80)
            return f"{what} {one.id} bears {bears}, which may be this job's label, cut short or spelt otherwise"
        if isinstance(one, Instance) and not one.label and self._may_be_of_the_rent(one):
            return f"instance {one.id} bears no label, and appeared on the machine of the rent whose reply was lost"
        return None

    def _may_be_of_the_rent(self, one: Instance) -> bool:
        begun, at = self.history.unresolved, self.history.intended_at
        if begun is None or at is None:
            return False
        ago = self.now.here - at
        since = self.now.provider - ago - _APART_S if ago >= 0 else 0.0  # a clock that was set back tells nothing
        machine = begun.offer.get("machine_id")
        return machine in {None, 0, one.machine_id} and (one.started_at is None or one.started_at >= since)
