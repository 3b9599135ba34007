"""API keys with a part of an account's rights: what an adapter offers so that a wall can be built with them.

An adapter offers it by a function ``open_key_issuer(settings)`` beside its ``open_provider``; keys that a box may
be given, by ``open_stop_keys(settings)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from harness.core.canonical import Json
from harness.core.ids import InstanceId


class Act(StrEnum):
    """An act that a key may be allowed or refused."""

    LIST = "list instances"
    MARKET = "search offers"
    ACCOUNT = "see the account"
    CHARGES = "see what was charged"
    MANAGE = "stop an instance"
    DESTROY = "destroy an instance"
    CHANGE_KEYS = "change API keys"


class Scope(StrEnum):
    """A kind of scoped key: for people, scripts and agents; or for the harness itself."""

    EVERYDAY = "everyday"
    WORKING = "working"


ALLOWED: Mapping[Scope, tuple[Act, ...]] = {
    Scope.EVERYDAY: (Act.LIST, Act.MARKET),
    Scope.WORKING: (Act.LIST, Act.MARKET, Act.ACCOUNT, Act.CHARGES, Act.MANAGE),
}
REFUSED: Mapping[Scope, tuple[Act, ...]] = {
    Scope.EVERYDAY: (Act.CHANGE_KEYS, Act.MANAGE, Act.DESTROY),
    Scope.WORKING: (Act.CHANGE_KEYS,),
}
"""Acts that a key is seen to be refused, in this order: destroying is tried with no key that is let stop."""


@dataclass(frozen=True, slots=True)
class ScopedKey:
    """A key that was issued: its number at the provider, and the key."""

    id: int
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """A place where the provider's own programs look for a key; ``path`` is None for a variable of the environment."""

    told: str
    path: Path | None
    key: str | None = field(repr=False)


class KeyIssuer(Protocol):
    """A provider's scoped keys. ``by`` is the key that asks. Every method raises ProviderUnavailable on no answer."""

    @property
    def server(self) -> str:
        """Address that the keys are for; they are sent nowhere else."""

    @property
    def limits(self) -> tuple[str, ...]:
        """Sentences on what keys of this provider cannot hold, and on what is not known of it."""

    def places(self) -> tuple[KeyPlace, ...]:
        """Where a key is looked for, in the order in which it is; the everyday key goes into the first file."""

    def account(self, by: str) -> int:
        """Number of the account behind a key; raises BadInput for a key that may not see it."""

    def issue(self, by: str, scope: Scope, name: str) -> ScopedKey:
        """Make a key, asking once; raises BadInput for a key that may not make others."""

    def named(self, by: str) -> Mapping[int, str]:
        """Every key of the account: number and name."""

    def revoke(self, by: str, key_id: int) -> None:
        """Delete a key; one that is gone already is fine."""

    def may(self, key: str, act: Act) -> bool:
        """Try an act that only looks, or on a thing that cannot exist; True where it was not refused to this key."""


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """One HTTP request that a box makes with a key that it was given."""

    method: str
    url: str
    body: Mapping[str, Json]


class StopKeyIssuer(KeyIssuer, Protocol):
    """A ``KeyIssuer`` whose keys can be held to stopping one instance: what a box may be given."""

    def issue_stop_key(self, by: str, instance_id: InstanceId, name: str) -> ScopedKey:
        """Make a key that can stop one instance and do nothing else; it is tried before it is returned.

        Raises HarnessError, with every key of that name deleted again, when it may do more, or cannot do that.
        """

    def stop_request(self, instance_id: InstanceId) -> KeyedRequest:
        """The request that stops an instance, its disk kept."""

    @property
    def trial(self) -> KeyedRequest:
        """One that every stop key is refused, and that does nothing where it is not."""
