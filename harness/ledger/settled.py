"""Events by which something on the box is settled: a strategy that was proven there, a switch that was armed there."""

from __future__ import annotations

from harness.core.ids import InstanceId
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


@stored("switch_armed")
class SwitchArmed(JobEvent):
    """The box stops itself after so many seconds in which nothing trains and nobody is heard from; None: no longer.

    ``key_id`` is the number at the provider of the key that lets it, which is on the box alone.
    """

    instance_id: InstanceId
    key_id: int
    after_s: float | None = None

    @property
    def told(self) -> str:
        """The same as a sentence."""
        if self.after_s is None:
            return "the box's switch was taken off"
        return f"the box stops itself when for {self.after_s:.0f} s nothing trains and nobody is heard from"


@stored("switch_fired")
class SwitchFired(JobEvent):
    """The box had stopped its own instance at ``at``, by its own account, after ``unheard_s`` seconds of silence."""

    instance_id: InstanceId
    at: float
    unheard_s: float
