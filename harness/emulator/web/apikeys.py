"""API keys: the account's first, which may do everything, and those that are made with a part of its rights."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from typing import Annotated

from pydantic import Field, JsonValue

from harness.core.ids import new_secret
from harness.emulator import permissions as rights
from harness.emulator.permissions import ApiKey
from harness.emulator.refusal import Refusal, not_emulated
from harness.emulator.request import Label
from harness.emulator.state import FIRST_KEY_ID
from harness.emulator.web.exchange import Answer
from harness.emulator.world import Caller, World

KeyId = Annotated[int, Field(alias="id")]


async def create_api_key(
    world: World, caller: Caller, *, name: Label, permissions: JsonValue = None, key_params: JsonValue = None
) -> Answer:
    """POST /auth/apikeys/: the new key can never do more than the one that asked for it."""
    if key_params is not None:
        raise not_emulated("key_params")
    wanted = rights.read(permissions)
    with world.changing():
        own = (*caller.key.permissions, wanted)
        key = ApiKey(world.state.new_id(), new_secret(), name, own, world.clock.now())
        world.state.scoped_keys[key.id] = key
    return {"success": True, "id": key.id, "key": key.secret, "permissions": rights.written(wanted)}


async def show_api_keys(world: World) -> Answer:
    """GET /auth/apikeys/: no key is shown again."""
    return {"apikeys": [_row(world, key) for key in world.state.api_keys().values()]}


async def show_api_key(world: World, *, key_id: KeyId) -> Answer:
    """GET /auth/apikeys/{id}/."""
    return _row(world, _known(world, key_id))


async def delete_api_key(world: World, *, key_id: KeyId) -> str:
    """DELETE /auth/apikeys/{id}/: from then on it is a wrong key. The account's first one stays."""
    with world.changing():
        if _known(world, key_id).id == FIRST_KEY_ID:
            raise Refusal(403, "auth_error", "You do not have permission to delete this API Key.")
        del world.state.scoped_keys[key_id]
    return "Successfully Deleted API Key"


async def reset_api_key(world: World, caller: Caller) -> Answer:
    """PUT /commands/reset_apikey/: the key that asks is a wrong one from then on; its rights go to a new one."""
    with world.changing():
        key, secret = _known(world, caller.key.id), new_secret()
        if key.id == FIRST_KEY_ID:
            world.state.key = secret
        else:
            world.state.scoped_keys[key.id] = replace(key, secret=secret)
    return {"success": True, "new_api_key": secret}


def _known(world: World, key_id: int) -> ApiKey:
    key = world.state.api_keys().get(key_id)
    if key is None:
        raise Refusal(404, "not_found", "API Key not found.")
    return key


def _row(world: World, key: ApiKey) -> Answer:
    own = rights.written(key.permissions[-1]) if key.permissions else {"api": {}}
    return {
        "id": key.id,
        "user_id": world.scenario.account.user_id,
        "name": key.name,
        "rights": json.dumps(own),
        "permissions": own,
        "created_at": dt.datetime.fromtimestamp(key.created_at, dt.UTC).isoformat(),
        "team_id": 0,
        "team_name": "",
    }
