"""Faults in the order in which they strike, each counted. No I/O: conditions on the box are asked of the caller."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from harness.emulator.scenario import ApiFault, LifeEvent, SshFault, When

Fault = ApiFault | SshFault | LifeEvent
F = TypeVar("F", ApiFault, SshFault, LifeEvent)
Holds = Callable[[When], bool]
"""Answers whether a condition holds now."""

_NUMBERS = re.compile(r"\{[a-z_]+\}")


@dataclass(slots=True, eq=False)
class _Armed:
    fault: Fault
    seen: int = 0
    struck: int = 0

    def exhausted(self) -> bool:
        return bool(self.fault.times) and self.struck >= self.fault.times

    def strikes(self) -> bool:
        """Count one more occasion, unless it has struck as often as it may; True when it strikes here."""
        if self.exhausted():
            return False
        self.seen += 1
        if not isinstance(self.fault, LifeEvent) and self.seen <= self.fault.after:
            return False
        self.struck += 1
        return True


class FaultBook:
    """The faults that are armed; each counts what it has seen and where it struck. Safe to use from several threads."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._armed = [_Armed(fault) for fault in faults]
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Arm one more."""
        with self._lock:
            self._armed.append(_Armed(fault))

    def clear(self) -> None:
        """Disarm all."""
        with self._lock:
            self._armed.clear()

    def counts(self) -> list[tuple[int, int]]:
        """Counts to remember across a restart: seen and struck, in order."""
        with self._lock:
            return [(armed.seen, armed.struck) for armed in self._armed]

    def recall(self, counts: Iterable[tuple[int, int]]) -> None:
        """Go on from remembered counts."""
        with self._lock:
            for armed, (seen, struck) in zip(self._armed, counts, strict=False):
                armed.seen, armed.struck = seen, struck

    def struck(self) -> list[Fault]:
        """The faults that have happened at least once."""
        with self._lock:
            return [armed.fault for armed in self._armed if armed.struck]

    def api(self, method: str, path: str, holds: Holds) -> ApiFault | None:
        """The fault that hits this request, counted."""
        return self._next(ApiFault, lambda fault: matches(fault.route, method, path), holds)

    def ssh(self, kinds: frozenset[str], route: str, sent: int, holds: Holds) -> SshFault | None:
        """The SSH fault of those kinds that hits a session which has sent so many bytes, counted."""
        return self._next(
            SshFault, lambda f: f.do in kinds and f.route in {"both", route} and sent >= f.after_bytes, holds
        )

    def life(self, kinds: frozenset[str], holds: Holds) -> LifeEvent | None:
        """The next thing of those kinds that happens to an instance, counted."""
        return self._next(LifeEvent, lambda event: event.do in kinds, holds)

    def awaits_life(self) -> bool:
        """True while something may still happen to an instance by itself."""
        with self._lock:
            return any(isinstance(armed.fault, LifeEvent) and not armed.exhausted() for armed in self._armed)

    def _next(self, kind: type[F], fits: Callable[[F], bool], holds: Holds) -> F | None:
        with self._lock:
            candidates = [
                armed
                for armed in self._armed
                if isinstance(armed.fault, kind) and fits(armed.fault) and not armed.exhausted()
            ]
        for armed in candidates:
            # Asked without the lock: the answer waits for the world, which may wait for these counts meanwhile.
            if not holds(armed.fault.when):
                continue
            with self._lock:
                if armed in self._armed and armed.strikes():
                    return armed.fault  # type: ignore[return-value]  # isinstance above narrows only its own list
        return None


def matches(route: str, method: str, path: str) -> bool:
    """True for a request on a fault's route; a trailing slash makes no difference."""
    wanted_method, _, wanted_path = route.partition(" ")
    pattern = "".join(
        r"[^/]+" if _NUMBERS.fullmatch(part) else ".*" if part == "*" else re.escape(part)
        for part in re.split(r"(\{[a-z_]+\}|\*)", wanted_path.rstrip("/"))
    )
    return wanted_method in {"*", method} and re.fullmatch(pattern, path.rstrip("/")) is not None
