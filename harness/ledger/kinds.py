"""The kinds of events: the class of each, by the name that it is stored under."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, dataclass_transform

JsonObject = Mapping[str, Any]
"""A JSON object that is stored as it is given."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Anything that can happen to a job; ``kind`` is the name that it is stored under."""

    kind: ClassVar[str]


KINDS: dict[str, type[JobEvent]] = {}
"""The class of each kind."""

Event = TypeVar("Event", bound=JobEvent)


@dataclass_transform(frozen_default=True)
def stored(kind: str) -> Callable[[type[Event]], type[Event]]:
    """Make a class the event that is stored under a kind."""

    def made(event: type[Event]) -> type[Event]:
        event.kind = kind
        KINDS[kind] = stored = dataclass(frozen=True, slots=True)(event)
        return stored

    return made
