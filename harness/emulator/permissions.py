"""API keys of the account, and what each may do. Pure.

The categories, and the form in which a key's permissions are written, are the service's own
(docs.vast.ai/api-reference/permissions): what is empty allows everything below it, anything else only what it names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from harness.core.ports import Json
from harness.emulator import market
from harness.emulator.refusal import Refusal

Category = Literal[
    "instance_read",
    "instance_write",
    "user_read",
    "user_write",
    "billing_read",
    "billing_write",
    "machine_read",
    "machine_write",
    "misc",
    "team_read",
    "team_write",
]

OTHERS = "*"
"""Name that stands for every endpoint of a category that is not named."""

_SEEN_FROM_THE_LIMIT = {"eq": "eq", "lte": "gte", "gte": "lte"}


@checked_dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class EndpointRight:
    """Right to one endpoint; ``constraints`` hold its parameters to values."""

    constraints: dict[str, dict[Literal["eq", "lte", "gte"], int | float | str]] = field(default_factory=dict)

    def holds(self, sent: Mapping[str, Any]) -> bool:
        """True for a request whose parameters are all as constrained; one that lacks such a parameter is not."""
        return all(
            name in sent and market.compare(limit, _SEEN_FROM_THE_LIMIT[operator], sent[name])
            for name, limits in self.constraints.items()
            for operator, limit in limits.items()
        )


Permissions = Annotated[
    dict[Literal["api"], dict[Category, dict[str, EndpointRight]]], Field(min_length=1, max_length=1)
]
_PERMISSIONS: TypeAdapter[Permissions] = TypeAdapter(Permissions)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of the account.

    ``permissions`` are its own and those of the keys it was made with, back to the account's first: a request needs
    every one of them. None at all is the account's first key, which may do everything.
    """

    id: int
    secret: str
    name: str = ""
    permissions: tuple[Permissions, ...] = ()
    created_at: float = 0.0

    def may(self, category: Category, endpoint: str, sent: Mapping[str, Any]) -> bool:
        """True for a request that this key may make."""
        return all(_allows(permissions, category, endpoint, sent) for permissions in self.permissions)


def read(sent: Json) -> Permissions:
    """Permissions as they were sent; raises Refusal(400) with what does not fit."""
    if sent is None:
        raise Refusal(400, "missing_permissions", "permissions are required, as in {'api': {'instance_read': {}}}")
    try:
        return _PERMISSIONS.validate_python(sent)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False)[0]
        where = ".".join(("permissions", *map(str, first["loc"])))
        raise Refusal(400, "invalid_permissions", f"{where}: {first['msg']}") from None


def written(permissions: Permissions) -> Json:
    """Permissions as they are shown."""
    shown: Json = _PERMISSIONS.dump_python(permissions, mode="json", exclude_defaults=True)
    return shown


def endpoint_name(category: Category, handler: str) -> str:
    """Name of an endpoint in permissions, after the one that is published: ``api.instance.request_logs``."""
    return f"api.{category.split('_')[0]}.{handler}"


def _allows(permissions: Permissions, category: Category, endpoint: str, sent: Mapping[str, Any]) -> bool:
    categories = permissions["api"]
    if not categories:
        return True
    if category not in categories:
        return False
    named = categories[category]
    right = named.get(endpoint, named.get(OTHERS))
    return not named or (right is not None and right.holds(sent))
