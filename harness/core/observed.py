"""Outcome of a look at the world: a value, or the reason why there is none. Pure.

Facts are made of ``Observed`` values. Unwrapping one that holds no value raises
``CouldNotLook``, which the plugin turns into the verdict UNKNOWN, so that no check
can mistake "could not look" for an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


class CouldNotLook(Exception):
    """The world could not be looked at; the message says what and why."""


@dataclass(frozen=True, slots=True)
class Observed(Generic[T]):
    """A value that was seen, or the problem that kept it from being seen: exactly one of both."""

    value: T | None = None
    problem: str | None = None

    def get(self) -> T:
        """The value; raises CouldNotLook with the reason when there is none."""
        if self.problem is not None:
            raise CouldNotLook(self.problem)
        if self.value is None:
            raise CouldNotLook("nothing was observed")
        return self.value

    def map(self, change: Callable[[T], U]) -> Observed[U]:
        """The same look, its value changed; a ValueError, TypeError or LookupError of the change is a problem."""
        if self.problem is not None or self.value is None:
            return unseen(self.problem or "nothing was observed")
        try:
            return seen(change(self.value))
        except (ValueError, TypeError, LookupError) as error:
            return unseen(f"unexpected answer: {error}")


def seen(value: T) -> Observed[T]:
    """A look that came back with a value; ``seen(None)`` is refused, absence needs a type of its own."""
    if value is None:
        raise ValueError("None is not an observation")
    return Observed(value=value)


def unseen(problem: str) -> Observed[T]:
    """A look that came back with nothing; the problem says what was tried and what went wrong."""
    return Observed(problem=problem)
