"""The event by which a strategy is settled: the commit point between a proof on the box and the launch that follows."""

from __future__ import annotations

from harness.ledger.kinds import JobEvent, JsonObject, stored


@stored("strategy")
class StrategySettled(JobEvent):
    """The strategy that was ``asked`` for was tried on the box; the training is launched by the one that is ``used``.

    ``why``: how fast it was proven to be, or the reason by name for falling back. ``of`` names what it was tried for,
    ``proof`` is what the package's command left there.
    """

    asked: str
    used: str
    why: str
    of: str
    proof: JsonObject | None = None
