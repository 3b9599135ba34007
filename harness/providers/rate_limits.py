"""How often a provider may be asked, and how long it is waited for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Lane(StrEnum):
    """The provider limits the rate of each of these apart."""

    SHOW = "show"
    LIST = "list"
    MANAGE = "manage"
    DESTROY = "destroy"
    CREATE = "create"
    SEARCH = "search"
    ACCOUNT = "account"
    CHARGES = "charges"
    VOLUMES = "volumes"
    LOGS = "logs"
    KEYS = "keys"


@dataclass(frozen=True, slots=True)
class Pace:
    """Shortest time between two calls of one lane, in seconds.

    The numbers are Vast.ai's, from the ``endpoint threshold=`` in the 429 examples of its OpenAPI file; that
    they are intervals in seconds is an assumption, and so configurable. They suit the others, too.
    """

    intervals: Mapping[Lane, float] = field(
        default_factory=lambda: {Lane.SHOW: 2.0, Lane.DESTROY: 3.0, Lane.CREATE: 4.5}
    )
    other: float = 1.0

    def interval(self, lane: Lane) -> float:
        """The shortest time between two calls of the lane."""
        return self.intervals.get(lane, self.other)


UNPACED = Pace(intervals={}, other=0.0)
"""For an embedded provider that limits nothing."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a reply (seconds) and how often to try a read.

    A whole call, to the last byte of its reply, takes ``connect_s`` and ``reply_s`` together at most.
    ``log_s`` is how long a container log may take to appear where the provider puts it.
    The wait before another try doubles; a longer one that the provider asks for is granted up to ``longest_wait_s``.
    """

    connect_s: float = 10.0
    reply_s: float = 60.0
    create_reply_s: float = 120.0
    log_s: float = 30.0
    tries: int = 4
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
