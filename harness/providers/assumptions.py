"""Beliefs about a provider as numbered rows, and what an adapter offers so that they can be tried on the live service.

An adapter offers it by a function ``open_subject(settings)`` beside its ``open_provider``. The rows are plain data; a
row names the trial that tries it, one of those that speak through the port alone (``harness.conformance.trials``) or
one of the adapter's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeVar

from harness.core.ids import InstanceId
from harness.core.ports import Clock, Instance, Provider, RunResult
from harness.providers.scoped_keys import KeyIssuer, Scope, ScopedKey

T = TypeVar("T")

NEVER = InstanceId(2**31 - 1)
"""Number that no instance and no key has: ids count up from one, and are tens of millions after years."""


@dataclass(frozen=True, slots=True)
class Assumption:
    """One belief about a provider.

    ``source`` says where it comes from, ``rests`` what depends on it. ``trial`` names what tries it; where none does,
    ``untried`` says why.
    """

    id: str
    claim: str
    source: str
    rests: str = ""
    trial: str = ""
    untried: str = "no trial of it is written"


Found = tuple[bool, str]
"""True where a belief holds, False where the service does otherwise; and what was seen."""


class CannotTry(Exception):
    """Nothing was seen that says yes or no; the message says why."""


class Phase(StrEnum):
    """Moment of a run at which a trial takes place."""

    BEFORE = "before anything is rented"
    CREATED = "after the create"
    RUNNING = "while it runs"
    RESTARTED = "stopped and started again"
    GONE = "after the destroy"


class Box(Protocol):
    """The rented box over SSH, as far as a trial needs it."""

    def run(self, argv: Sequence[str], *, timeout: float = 60.0) -> RunResult:
        """Run one command; raises HostUnreachable."""

    def host_key(self) -> str:
        """The host key that it shows on a new connection; raises HostUnreachable, HostKeyChanged."""

    def close(self) -> None:
        """Close every connection."""


class Bench(Protocol):
    """A trial's world. What cannot be had raises CannotTry; what would cost more than the budget ends the run."""

    @property
    def subject(self) -> Subject:
        """The provider."""

    @property
    def clock(self) -> Clock:
        """Time."""

    def number(self) -> InstanceId:
        """The instance's number."""

    def shown(self) -> Instance:
        """The instance, as the provider shows it now."""

    def running(self) -> Instance:
        """The same, once it runs."""

    def box(self) -> Box:
        """The box, logged in to with the key of this run alone."""

    def scoped_key(self, scope: Scope) -> AbstractContextManager[tuple[KeyIssuer, ScopedKey]]:
        """A key of a scope while the block runs; it is deleted after it."""

    def until(self, look: Callable[[], T | None], limit_s: float) -> tuple[T | None, float]:
        """The first answer that is not None, and after how many seconds it came; None once ``limit_s`` have passed."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial by its name; ``attempt`` raises CannotTry where nothing was seen, or whatever came."""

    name: str
    phase: Phase
    attempt: Callable[[Bench], Found]


@dataclass(frozen=True, slots=True)
class Subject:
    """A provider that can be tried: what is believed of it, the cheap GPUs and the small image to try it with.

    ``own``: trials of the adapter, beside those through the port. ``keys``: its scoped keys, and the key that makes
    them; None where it has none. ``packages``: those whose version the report tells.
    """

    provider: Provider
    assumptions: tuple[Assumption, ...]
    gpus: tuple[str, ...]
    image: str
    own: tuple[Trial, ...] = ()
    keys: tuple[KeyIssuer, str] | None = field(default=None, repr=False)
    packages: tuple[str, ...] = ()
