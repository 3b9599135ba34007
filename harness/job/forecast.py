"""Forecast of a rental: time and money by part at one offer's prices, each with the source of its figure. Pure.

A part takes what the job file or its profile says (``profile``), unless it is known what it took before. Two figures
hold a part of their own, which is told apart: the setup the download of the base model, at the rate that the offer
promises, and the training the export, in the profile's proportion.
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
    """The forecast for one offer; ``known`` by the names of ``estimate.Timeline``, ``done`` as there.

    Raises BadInput for a model whose sizes cannot be predicted.
    """
    whole, left = estimate.timeline(job), estimate.timeline(job, done)
    setup = known.get("setup", Taken(left.setup, PROFILE))
    training = known.get("training", Taken(whole.training, PROFILE))
    export = _share(training.seconds, left.export, whole.training)
    download = known.get("download", Taken(left.download, PROFILE))
    evaluation = known.get("evaluate", Taken(left.evaluate, PROFILE))
    base, home = estimate.base_bytes(job), estimate.sent_home_bytes(job)
    fetch = base * _BITS / offer.inet_down_mbps if offer.inet_down_mbps > 0 else 0.0
    timed = (
        ("boot and install", max(0.0, setup.seconds - fetch), setup.source),
        ("base download", fetch, f"offer, {offer.inet_down_mbps:,.0f} Mb/s"),
        ("training", _share(training.seconds, left.training, whole.training) - export, training.source),
        ("export", export, training.source),
        ("download home", download.seconds, download.source),
        ("evaluation", evaluation.seconds if job.package.evaluate else 0.0, evaluation.source),
    )
    traffic = for_traffic(base, offer.usd_per_gb_down) + for_traffic(home, offer.usd_per_gb_up)
    parts = [Part(name, seconds, usd(seconds, offer.usd_per_hour), source) for name, seconds, source in timed]
    parts.append(Part("traffic", 0.0, traffic, f"offer, {human_bytes(base + home)}"))
    return Forecast(tuple(part for part in parts if part.seconds or part.usd))


def _share(seconds: float, part: float, whole: float) -> float:
    return seconds * part / whole if whole > 0 else 0.0
