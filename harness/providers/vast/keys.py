"""Scoped API keys of Vast.ai: made, listed, deleted and tried through the official client.

Categories of rights and the JSON around them: docs.vast.ai/api-reference/permissions. A 403 is a key without the right.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.core.canonical import Json
from harness.core.errors import BadInput, ProviderUnavailable
from harness.core.ports import Clock
from harness.providers.assumptions import NEVER
from harness.providers.rate_limits import Lane, Pace, Patience
from harness.providers.row import Row
from harness.providers.scoped_keys import Act, KeyPlace, Scope, ScopedKey
from harness.providers.vast.credentials import KEY_REMEDY, Credentials, key_places
from harness.providers.vast.provider import VastProvider
from harness.providers.wire import Call, Reply, Wire

_READS = ("misc", "instance_read", "billing_read")
_RIGHTS = {
    Scope.EVERYDAY: _READS,  # without user_read, which shows the account's secrets and, for all that is known, keys
    Scope.WORKING: (*_READS, "user_read", "instance_write"),
}
_TRIES: Mapping[Act, Call] = {
    Act.LIST: Call(Lane.LIST, "get", "/api/v1/instances/", query={"limit": 1}),
    Act.MARKET: Call(Lane.SEARCH, "post", "/bundles/", body={"limit": 1}),
    Act.ACCOUNT: Call(Lane.ACCOUNT, "get", "/users/current"),
    Act.CHARGES: Call(
        Lane.CHARGES,
        "get",
        "/charges/",
        query={"select_filters": {"day": {"gte": 0, "lte": 1}}, "format": "table", "limit": 1},
    ),
    Act.MANAGE: Call(Lane.MANAGE, "put", f"/instances/{NEVER}/", body={"state": "stopped"}),
    Act.DESTROY: Call(Lane.DESTROY, "delete", f"/instances/{NEVER}/", body={}),
    Act.CHANGE_KEYS: Call(Lane.KEYS, "delete", f"/auth/apikeys/{NEVER}/", body={}),
}
_CHANGES = frozenset({Act.MANAGE, Act.DESTROY, Act.CHANGE_KEYS})


class VastKeyIssuer:
    """A ``KeyIssuer`` over Vast.ai's HTTP API."""

    limits = (
        "The web console, and a key that lies anywhere but in the places above (another machine, a .env file, CI).",
        "Whoever works as you on this machine can ask the keyring, or read the file, as the harness does.",
        "The box: every instance carries a key of its own (CONTAINER_API_KEY) that can stop and destroy that instance.",
        "SSH: the harness's key in its home opens every box that it rented.",
        "Vast.ai's category misc, which searching needs, also covers serverless endpoints and network volumes.",
        "The everyday key does not see the account (vastai show user): that right also shows secrets of the account.",
        "Not known of the real service: whether a key with that right, as the harness's own, is shown other keys.",
    )

    def __init__(self, server: str, environ: Mapping[str, str], home: Path, clock: Clock, pace: Pace) -> None:
        self._server = server
        self._environ = environ
        self._home = home
        self._clock = clock
        self._pace = pace
        self._wires: dict[str, Wire] = {}

    @property
    def server(self) -> str:
        """Address that the keys are for."""
        return self._server

    def places(self) -> tuple[KeyPlace, ...]:
        """VAST_API_KEY; the client's file; that of its older versions; the key of a two-factor session."""
        return key_places(self._environ, self._home)

    def account(self, by: str) -> int:
        """Number of the account behind a key."""
        reply = self._wire(by).read(_TRIES[Act.ACCOUNT])
        if _denied(reply):
            raise _too_little("see its account")
        return Row("the account", reply.ok()).whole("id")

    def issue(self, by: str, scope: Scope, name: str) -> ScopedKey:
        """Make a key, asking once."""
        rights: dict[str, Json] = {"api": {category: {} for category in _RIGHTS[scope]}}
        reply = self._wire(by).once(
            Call(Lane.KEYS, "post", "/auth/apikeys/", body={"name": name, "permissions": rights})
        )
        if _denied(reply):
            raise _too_little("make keys")
        row = Row("the new API key", reply.ok())
        secret = row.fields.get("key")
        if not isinstance(secret, str) or not secret:
            raise ProviderUnavailable("the provider made a key and did not tell it")
        return ScopedKey(row.identifier("id"), secret)

    def named(self, by: str) -> Mapping[int, str]:
        """Every key of the account."""
        reply = self._wire(by).read(Call(Lane.KEYS, "get", "/auth/apikeys/"))
        if _denied(reply):
            raise _too_little("list keys")
        rows = [Row.of("an API key", row) for row in Row("the API keys", reply.ok()).items("apikeys")]
        return {row.identifier("id"): str(row.fields.get("name") or "") for row in rows}

    def revoke(self, by: str, key_id: int) -> None:
        """Delete a key; the list says that it is gone, for the reply is no JSON object."""
        reply = self._wire(by).once(Call(Lane.KEYS, "delete", f"/auth/apikeys/{key_id}/", body={}))
        if _denied(reply):
            raise _too_little("delete keys")
        if key_id in self.named(by):
            raise reply.unexpected()

    def may(self, key: str, act: Act) -> bool:
        """Try it; True when it was let through, and found that there is no such thing."""
        call, wire = _TRIES[act], self._wire(key)
        if act is Act.DESTROY and self._provider(key).instance(NEVER) is not None:
            raise ProviderUnavailable(f"there is an instance {NEVER}: nothing harmless is left to try")
        reply = wire.once(call) if act in _CHANGES else wire.read(call)
        if _denied(reply):
            return False
        if reply.status == 200 or (act in _CHANGES and reply.status == 404):
            return True
        raise reply.unexpected()

    def _wire(self, key: str) -> Wire:
        if key not in self._wires:
            self._wires[key] = Wire(Credentials(self._server, key), self._clock, self._pace, Patience())
        return self._wires[key]

    def _provider(self, key: str) -> VastProvider:
        return VastProvider(Credentials(self._server, key), self._clock, pace=self._pace)


def _denied(reply: Reply) -> bool:
    body: Mapping[str, Any] = reply.body or {}
    return reply.status in {401, 403} or body.get("error") == "auth_error"


def _too_little(act: str) -> BadInput:
    return BadInput(
        f"the key that was found may not {act}: it is a scoped one, perhaps of a wall in another HARNESS_HOME",
        remedy=f"Put a key with all rights in its place and run the same command again. {KEY_REMEDY}",
    )
