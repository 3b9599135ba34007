"""Forecast of a rental: time and money by part at one offer's prices, each with the source of its figure. Pure.

A part takes what the job file or its profile says (``profile``), unless it is known what it took before. The setup
holds a part of its own, which is told apart: the download of the base model, at the rate that the offer promises. What
is paid from the gate to the destruction has no figure of a profile: it is told where it is known (docs/prediction.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.core.money import for_traffic, usd
from harness.core.ports import Offer
from harness.core.text import human_bytes
from harness.job import estimate
from harness.job.model import Job

PROFILE = "profile"
STEPS = "training"
"""Name of the part that the steps are."""
_BITS = 8e-6
"""Megabits of a byte."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Seconds that a part of a whole job takes as it did before, and where that is known from."""

    seconds: float
    source: str


NOTHING_KNOWN: Mapping[str, Taken] = {}
"""No job like it has been run yet."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a rental: seconds, USD, and where they are known from; traffic takes no time of its own."""

    name: str
    seconds: float
    usd: float
    source: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """Every part of a rental, in order."""

    parts: tuple[Part, ...]

    @property
    def seconds(self) -> float:
        """From the rental to the file at home, and the evaluation that the job asks for."""
        return sum(part.seconds for part in self.parts)

    @property
    def usd(self) -> float:
        """Everything: the hours and the traffic."""
        return sum(part.usd for part in self.parts)


def forecast(
    job: Job, offer: Offer, known: Mapping[str, Taken] = NOTHING_KNOWN, done: Mapping[str, int] = estimate.NOTHING
) -> Forecast:
    """The forecast for one offer; ``known`` by the names of ``timings.known``, ``done`` as in ``estimate.timeline``.

    Raises BadInput for a model whose sizes cannot be predicted.
    """
    whole, left = estimate.timeline(job), estimate.timeline(job, done)
    planned, still = sum(whole.steps.values()), sum(left.steps.values())

    def taken(part: str, seconds: float) -> Taken:
        return known.get(part, Taken(seconds, PROFILE))

    setup, steps = taken("setup", left.setup), taken("steps", planned)
    base, home = estimate.base_bytes(job), estimate.sent_home_bytes(job)
    fetch = base * _BITS / offer.inet_down_mbps if offer.inet_down_mbps > 0 else 0.0
    timed = (
        ("boot and install", Taken(max(0.0, setup.seconds - fetch), setup.source)),
        ("base download", Taken(fetch, f"offer, {offer.inet_down_mbps:,.0f} Mb/s")),
        ("loading", taken("load", left.load)),
        (STEPS, Taken(steps.seconds * still / planned if planned > 0 else 0.0, steps.source)),
        ("export", taken("export", left.export)),
        ("download home", taken("download", left.download)),
        ("evaluation", taken("evaluate", left.evaluate) if job.package.evaluate else Taken(0.0, PROFILE)),
        ("giving back", taken("closing", 0.0)),
    )
    traffic = for_traffic(base, offer.usd_per_gb_down) + for_traffic(home, offer.usd_per_gb_up)
    parts = [Part(name, one.seconds, usd(one.seconds, offer.usd_per_hour), one.source) for name, one in timed]
    parts.append(Part("traffic", 0.0, traffic, f"offer, {human_bytes(base + home)}"))
    return Forecast(tuple(part for part in parts if part.seconds or part.usd))
