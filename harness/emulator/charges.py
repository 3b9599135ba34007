"""Charges: what for, how much and when. Pure.

One entry is one kind of charge on one contract (an instance, a volume) over one span within one UTC day:
``gpu`` and ``disk`` by the hour, ``bwd`` and ``bwu`` (bytes to and from the
instance, as the provider names them) by the byte.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from harness.core.money import GB, HOUR_S
from harness.emulator.market import DAY_S


@dataclass(frozen=True, slots=True)
class ChargeEntry:
    """One charge. Times in seconds since the epoch, ``usd`` what it came to, ``rate`` USD per hour or per GB.

    ``instance_id`` is the contract's number; a volume has one, too, and ``contract`` says which it is.
    """

    instance_id: int
    kind: str
    start: float
    end: float
    usd: float
    rate: float
    quantity: float
    contract: str = "instance"


@dataclass(slots=True)
class Charges:
    """Every charge so far, in order; neighbours at the same rate and day are kept as one entry."""

    entries: list[ChargeEntry] = field(default_factory=list)

    def hours(
        self, instance_id: int, kind: str, start: float, end: float, usd_per_hour: float, *, contract: str = "instance"
    ) -> None:
        """Charge a span of time, split at UTC midnights."""
        while start < end:
            stop = min(end, (start // DAY_S + 1) * DAY_S)
            span_h = (stop - start) / HOUR_S
            usd = span_h * usd_per_hour
            self._add(ChargeEntry(instance_id, kind, start, stop, usd, usd_per_hour, span_h, contract))
            start = stop

    def traffic(self, instance_id: int, kind: str, when: float, count: int, usd_per_gb: float) -> None:
        """Charge bytes that went over the wire."""
        if count > 0:
            amount = count / GB
            self._add(ChargeEntry(instance_id, kind, when, when, amount * usd_per_gb, usd_per_gb, amount))

    def total(self, instance_id: int | None = None) -> float:
        """USD charged to one instance, or to all of them."""
        return sum(entry.usd for entry in self.entries if instance_id in {None, entry.instance_id})

    def between(self, start: float, end: float) -> list[ChargeEntry]:
        """Entries of the days that touch a span of time."""
        return [e for e in self.entries if e.start // DAY_S * DAY_S <= end and e.end >= start]

    def _add(self, entry: ChargeEntry) -> None:
        for at in range(len(self.entries) - 1, -1, -1):
            known = self.entries[at]
            if (known.instance_id, known.kind) == (entry.instance_id, entry.kind):
                if _same_line(known, entry):
                    usd, quantity = known.usd + entry.usd, known.quantity + entry.quantity
                    self.entries[at] = replace(known, end=entry.end, usd=usd, quantity=quantity)
                    return
                break
        self.entries.append(entry)


def _same_line(known: ChargeEntry, entry: ChargeEntry) -> bool:
    contiguous = known.end == entry.start or entry.kind in {"bwd", "bwu"}
    return contiguous and known.rate == entry.rate and known.start // DAY_S == entry.start // DAY_S
