"""The account: who it is, its SSH keys, what it was charged; and the market."""

from __future__ import annotations

import datetime as dt
import json
from collections import defaultdict
from typing import Annotated, Any, Literal

import asyncssh
from aiohttp import web
from pydantic import AfterValidator, Field, Json, JsonValue

from harness.emulator.charges import ChargeEntry
from harness.emulator.rental import AttachedKey, RentedInstance
from harness.emulator.request import Request
from harness.emulator.web.exchange import FIRST_PAGE, Answer, Token, page_of, world_of
from harness.emulator.world import Caller, World


class Span(Request):
    """Span of time, in seconds since the epoch."""

    gte: float = 0.0
    lte: float = 1e12


class ChargeFilters(Request):
    """Days and kinds of contract to list the charges of."""

    day: Span
    type: dict[Literal["in"], tuple[JsonValue, ...]] = Field(default_factory=dict)


def _public_key(text: str) -> str:
    try:
        asyncssh.import_public_key(text.strip())
    except asyncssh.KeyImportError:
        raise ValueError("is not a public key") from None
    return " ".join(text.split())


PublicKey = Annotated[str, AfterValidator(_public_key)]


async def current(world: World, caller: Caller) -> Answer:
    """GET /users/current: it shows the key that asks, and no other."""
    account, credit = world.scenario.account, world.credit()
    return {
        "id": account.user_id,
        "key_id": caller.key.id,
        "email": account.email,
        "username": account.email,
        "fullname": "Emulated renter",
        "balance": 0.0,
        "credit": credit,
        "ssh_key": world.state.account_keys[-1].public_key if world.state.account_keys else "",
        "sid": "",
        "api_key": caller.key.secret,
        "has_billing": True,
        "billed_expected": 0.0,
        "balance_threshold": 0.0,
        "balance_threshold_enabled": False,
    }


async def gpu_names(request: web.Request) -> Answer:
    """GET /gpu_names/unique/: open to everybody."""
    return {"gpu_names": sorted({ask.gpu_name for ask in world_of(request).state.asks.values()})}


async def gpu_types(request: web.Request) -> Answer:
    """GET /gpu_types/: open to everybody."""
    found = {ask.gpu_name: ask.gpu_ram_mb for ask in world_of(request).state.asks.values()}
    return {"success": True, "gpu_types": [{"gpu_name": name, "gpu_ram": ram} for name, ram in sorted(found.items())]}


async def bundles(world: World, body: Answer) -> Answer:
    """POST /bundles/: search."""
    return {"success": True, "offers": world.search(body)}


async def search_asks(world: World, *, q: dict[str, JsonValue] | None = None) -> Answer:
    """PUT /search/asks/: the same search, its query under ``q``."""
    return {"success": True, "offers": world.search(q or {})}


async def search_volumes(world: World, body: Answer) -> Answer:
    """POST /volumes/search/: every machine on offer also offers its disk."""
    return {"success": True, "offers": world.search(body, volumes=True)}


async def attach(world: World, rental: RentedInstance, *, ssh_key: PublicKey) -> Answer:
    """POST /instances/{id}/ssh/."""
    world.attach_key(rental.id, ssh_key)
    return {"success": True, "msg": "SSH key added to instance."}


async def attached(world: World, rental: RentedInstance) -> Answer:
    """GET /instances/{id}/ssh/: the list travels as a JSON string."""
    return {"success": True, "ssh_keys": json.dumps([_key_row(world, key) for key in rental.keys])}


async def detach(world: World, rental: RentedInstance, *, key: int) -> Answer:
    """DELETE /instances/{id}/ssh/{key}/."""
    world.detach_key(rental.id, key)
    return {"success": True, "msg": "SSH key removed from instance."}


async def add_key(world: World, *, ssh_key: PublicKey) -> Answer:
    """POST /ssh/."""
    key = world.add_account_key(ssh_key)
    return {"success": True, "key": {**_key_row(world, key), "public_key": key.public_key}}


async def keys(world: World) -> list[Answer]:
    """GET /ssh/."""
    return [_key_row(world, key) for key in world.state.account_keys]


async def drop_key(world: World, *, key_id: Annotated[int, Field(alias="id")]) -> None:
    """DELETE /ssh/{id}/."""
    world.drop_account_key(key_id)


async def charges(
    world: World,
    *,
    select_filters: Json[ChargeFilters],
    latest_first: bool = True,
    limit: int = 100,
    after_token: Token = FIRST_PAGE,
) -> Answer:
    """GET /charges/: the ledger by contract, each with its items by kind; ``type`` chooses instances or volumes."""
    world.settle()
    span, kinds = select_filters.day, select_filters.type.get("in", ("instance", "volume"))
    by_contract: dict[int, list[ChargeEntry]] = defaultdict(list)
    for entry in world.state.charges.between(span.gte, span.lte):
        if entry.contract in kinds:
            by_contract[entry.instance_id].append(entry)
    results = [_charge(world, contract_id, entries) for contract_id, entries in sorted(by_contract.items())]
    return _page(results[::-1] if latest_first else results, limit, after_token)


async def invoices(world: World, *, limit: int = 60, after_token: Token = FIRST_PAGE) -> Answer:
    """GET /api/v1/invoices/: what was paid in."""
    paid: Answer = {
        "start": 0.0,
        "end": None,
        "type": "payment",
        "source": "emulated",
        "amount": world.state.credit_given,
        "description": "Credit of the rehearsal",
        "metadata": {"invoice_id": 1, "service": "stripe_payments"},
        "items": [],
    }
    return _page([paid], limit, after_token)


async def audit_logs(world: World) -> list[Any]:
    """GET /audit_logs/: what was done through the API."""
    return list(world.state.audit)


def _key_row(world: World, key: AttachedKey) -> Answer:
    created = dt.datetime.fromtimestamp(key.attached_at, dt.UTC).isoformat()
    user = world.scenario.account.user_id
    return {"id": key.id, "user_id": user, "key": key.public_key, "created_at": created, "deleted_at": None}


def _charge(world: World, contract_id: int, entries: list[ChargeEntry]) -> Answer:
    rental, kind = world.rentals().get(contract_id), entries[0].contract
    items: list[Answer] = [
        {
            "start": int(entry.start),
            "end": int(entry.end),
            "type": entry.kind,
            "source": None,
            "amount": entry.usd,
            "metadata": {"rate": entry.rate, "quantity": entry.quantity},
            "items": [],
        }
        for entry in entries
    ]
    return {
        "start": int(min(entry.start for entry in entries)),
        "end": int(max(entry.end for entry in entries)),
        "type": kind,
        "source": f"{kind}-{contract_id}",
        "description": f"{kind.capitalize()} {contract_id} charges",
        "amount": sum(entry.usd for entry in entries),
        "metadata": {"label": (rental.label if rental else None) or ""},
        "items": items,
    }


def _page(results: list[Answer], limit: int, after_token: str) -> Answer:
    page, token = page_of(results, limit, after_token, most=100)
    return {"success": True, "count": len(page), "total": len(results), "next_token": token, "results": page}
