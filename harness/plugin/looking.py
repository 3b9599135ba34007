"""The ``evidence`` fixture's object: a check looks at facts through it, so that what it saw is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from harness.core.observed import CouldNotLook, Observed
from harness.core.text import printable
from harness.gates.evidence import COULD_NOT_LOOK, Sight
from harness.plugin.showing import brief

T = TypeVar("T")
_LIMIT = 1000


@dataclass(slots=True)
class Evidence:
    """Collects what one check saw and what it expected; a check that saw nothing does not pass."""

    sights: list[Sight] = field(default_factory=list)
    expectations: list[Sight] = field(default_factory=list)

    def saw(self, name: str, observed: Observed[T]) -> T:
        """The observed value, kept as evidence; raises CouldNotLook, so the verdict is UNKNOWN, when there is none."""
        try:
            value = observed.get()
        except CouldNotLook as error:
            self.sights.append(Sight(name, f"{COULD_NOT_LOOK}{printable(str(error), _LIMIT)}"))
            raise CouldNotLook(f"{name}: {error}") from None
        self.sights.append(Sight(name, printable(brief(value), _LIMIT)))
        return value

    def note(self, name: str, value: T) -> T:
        """A value that needed no look, such as one computed from the job's own plan, kept as evidence."""
        self.sights.append(Sight(name, printable(brief(value), _LIMIT)))
        return value

    def wants(self, name: str, value: T) -> T:
        """A value that the check expects, kept beside what it saw."""
        self.expectations.append(Sight(name, printable(brief(value), _LIMIT)))
        return value
