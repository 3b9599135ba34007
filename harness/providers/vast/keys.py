"""Scoped API keys of Vast.ai: made, listed, deleted and tried through the official client.

Categories of rights and the JSON around them: docs.vast.ai/api-reference/permissions. A 403 is a key without the right.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.core.canonical import Json
from harness.core.errors import BadInput, HarnessError, ProviderUnavailable
from harness.core.ids import InstanceId
from harness.core.ports import Clock
from harness.providers.assumptions import NEVER
from harness.providers.rate_limits import Lane, Pace, Patience
from harness.providers.row import Row
from harness.providers.scoped_keys import Act, KeyedRequest, KeyPlace, Scope, ScopedKey
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
_STOPPED: Mapping[str, Json] = {"state": "stopped"}
_EXCESS = {Act.MANAGE: "stop another instance"}
_BEYOND_A_STOP = (Act.MANAGE, Act.LIST, Act.MARKET, Act.ACCOUNT, Act.CHARGES, Act.CHANGE_KEYS, Act.DESTROY)
"""Acts that are tried with a stop key, on what cannot exist: stopping another instance first, destroying last."""


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
        return self._issued(by, name, {category: {} for category in _RIGHTS[scope]})

    def _issued(self, by: str, name: str, rights: Mapping[str, Json]) -> ScopedKey:
        reply = self._wire(by).once(_making(name, rights))
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

    def issue_stop_key(self, by: str, instance_id: InstanceId, name: str) -> ScopedKey:
        """Make a key for one instance, tried on this machine: which constraints the service knows is not published.

        One of the same form for an instance that cannot exist must be let stop that, or none would stop anything.
        """
        proven: ScopedKey | None = None
        try:
            twin, wrong = self._issued(by, name, _only_stops(NEVER)), "is refused to stop one"
            if self.may(twin.secret, Act.MANAGE):
                key = self._issued(by, name, _only_stops(instance_id))
                wrong = f"may {excess}" if (excess := self._excess(by, key.secret, instance_id, name)) else ""
                proven = None if wrong else key
        finally:
            self._revoke_named(by, name, but=proven)
        if proven is None:
            raise HarnessError(
                f"a key that should do nothing but stop one instance {wrong}",
                remedy="It was deleted. The provider does not hold keys to one instance as it is believed to.",
            )
        return proven

    def stop_request(self, instance_id: InstanceId) -> KeyedRequest:
        """The request that stops an instance, its disk kept."""
        return KeyedRequest("PUT", f"{self._server}/api/v0/instances/{instance_id}/", _STOPPED)

    @property
    def trial(self) -> KeyedRequest:
        """A stop of the instance that cannot exist."""
        return self.stop_request(NEVER)

    def _excess(self, by: str, key: str, instance_id: InstanceId, name: str) -> str | None:
        """An act beyond the stop that the key was let do, none of which does harm; None where all are refused."""
        own = Call(Lane.MANAGE, "put", f"/instances/{instance_id}/", body={"state": "running"})
        if self._let(key, own):
            return "start it, too"
        if self._let(key, _making(name, {"misc": {}})):
            return "make keys"
        if self._provider(by).instance(NEVER) is not None:
            raise ProviderUnavailable(f"there is an instance {NEVER}: nothing harmless is left to try")
        tries = ((act, self._let(key, _TRIES[act], changes=act in _CHANGES)) for act in _BEYOND_A_STOP)
        return next((_EXCESS.get(act, str(act)) for act, let in tries if let), None)

    def _revoke_named(self, by: str, name: str, but: ScopedKey | None) -> None:
        for number, found in self.named(by).items():
            if found == name and (but is None or number != but.id):
                self.revoke(by, number)

    def may(self, key: str, act: Act) -> bool:
        """Try it; True when it was let through, and found that there is no such thing."""
        if act is Act.DESTROY and self._provider(key).instance(NEVER) is not None:
            raise ProviderUnavailable(f"there is an instance {NEVER}: nothing harmless is left to try")
        return self._let(key, _TRIES[act], changes=act in _CHANGES)

    def _let(self, key: str, call: Call, *, changes: bool = True) -> bool:
        wire = self._wire(key)
        reply = wire.once(call) if changes else wire.read(call)
        if _denied(reply):
            return False
        if reply.status == 200 or (changes and reply.status == 404):
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


def _making(name: str, rights: Mapping[str, Json]) -> Call:
    return Call(Lane.KEYS, "post", "/auth/apikeys/", body={"name": name, "permissions": {"api": dict(rights)}})


def _only_stops(instance_id: InstanceId) -> Mapping[str, Json]:
    """Rights to stop one instance, in the words of docs.vast.ai/api-reference/permissions."""
    held: Json = {"id": {"eq": int(str(instance_id))}, "state": {"eq": "stopped"}}
    return {"instance_write": {"api.instance.change": {"constraints": held}}}


def _too_little(act: str) -> BadInput:
    return BadInput(
        f"the key that was found may not {act}: it is a scoped one, perhaps of a wall in another HARNESS_HOME",
        remedy=f"Put a key with all rights in its place and run the same command again. {KEY_REMEDY}",
    )
