"""Minimum intervals between requests of one kind by one key: assumptions, for the service does not publish them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

INTERVALS_S: tuple[tuple[str, float], ...] = (
    (r"PUT /api/v0/asks/\d+", 4.5),
    (r"DELETE /api/v0/instances(/\d+)?", 3.0),
    (r"GET /api/v0/instances/\d+", 2.0),
    (r"GET /api/v1/instances", 1.0),
    (r"PUT /api/v0/instances(/.*)?", 1.0),
)


@dataclass(slots=True)
class Pacing:
    """When each key was last let through on each kind of request."""

    _last: dict[tuple[str, str], float] = field(default_factory=dict)

    def too_soon(self, key: str, method: str, path: str, now: float) -> bool:
        """True for a request that comes before its time; one that does not is counted."""
        line = f"{method} {path.rstrip('/')}"
        for pattern, interval in INTERVALS_S:
            if re.fullmatch(pattern, line):
                last = self._last.get((key, pattern))
                if last is not None and now < last + interval:
                    return True
                self._last[key, pattern] = now
                return False
        return False
