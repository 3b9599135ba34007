"""The account: who it is, its SSH keys, what it was charged; and the market."""

from __future__ import annotations

import datetime as dt
import json
from collections import defaultdict
from typing import Any

import asyncssh
from aiohttp import web

from harness.emulator.ledger import Entry
from harness.emulator.refusal import Refusal
from harness.emulator.rental import AttachedKey
from harness.emulator.web.asking import (
    Answer,
    body_of,
    caller_of,
    id_of,
    next_token,
    owner_of,
    page_of,
    query_json,
    world_of,
)
from harness.emulator.world import World


async def current(request: web.Request) -> Answer:
    """GET /users/current."""
    world = owner_of(request)
    account, credit = world.scenario.account, world.credit()
    return {
        "id": account.user_id,
        "key_id": 1,
        "email": account.email,
        "username": account.email,
        "fullname": "Emulated renter",
        "balance": 0.0,
        "credit": credit,
        "ssh_key": world.state.account_keys[-1].public_key if world.state.account_keys else "",
        "sid": "",
        "api_key": world.key,
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


async def bundles(request: web.Request) -> Answer:
    """POST /bundles/: search."""
    return {"success": True, "offers": owner_of(request).search(await body_of(request))}


async def search_asks(request: web.Request) -> Answer:
    """PUT /search/asks/: the same search, its query under ``q``."""
    query = (await body_of(request)).get("q") or {}
    if not isinstance(query, dict):
        raise Refusal(400, "invalid_args", "q must be an object")
    return {"success": True, "offers": owner_of(request).search(query)}


async def attach(request: web.Request) -> Answer:
    """POST /instances/{id}/ssh/."""
    caller, world, instance_id = caller_of(request), world_of(request), id_of(request)
    public_key = read_key(await body_of(request))
    world.rental(instance_id, caller)
    world.attach_key(instance_id, public_key)
    return {"success": True, "msg": "SSH key added to instance."}


async def attached(request: web.Request) -> Answer:
    """GET /instances/{id}/ssh/: the list travels as a JSON string."""
    caller, world = caller_of(request), world_of(request)
    keys = [_key_row(world, key) for key in world.rental(id_of(request), caller).keys]
    return {"success": True, "ssh_keys": json.dumps(keys)}


async def detach(request: web.Request) -> Answer:
    """DELETE /instances/{id}/ssh/{key}/."""
    caller, world, instance_id = caller_of(request), world_of(request), id_of(request)
    world.rental(instance_id, caller)
    world.detach_key(instance_id, id_of(request, "key"))
    return {"success": True, "msg": "SSH key removed from instance."}


async def add_key(request: web.Request) -> Answer:
    """POST /ssh/."""
    world = owner_of(request)
    key = world.add_account_key(read_key(await body_of(request)))
    return {"success": True, "key": {**_key_row(world, key), "public_key": key.public_key}}


async def keys(request: web.Request) -> list[Answer]:
    """GET /ssh/."""
    world = owner_of(request)
    return [_key_row(world, key) for key in world.state.account_keys]


async def drop_key(request: web.Request) -> Answer:
    """DELETE /ssh/{id}/."""
    owner_of(request).drop_account_key(id_of(request))
    return {"success": True}


async def charges(request: web.Request) -> Answer:
    """GET /charges/: the ledger by contract, each with its items by kind; ``type`` chooses instances or volumes."""
    world = owner_of(request)
    world.settle()
    filters = query_json(request, "select_filters", {})
    span = filters.get("day") if isinstance(filters, dict) else None
    if not isinstance(span, dict):
        raise Refusal(400, "invalid_request", "select_filters needs day")
    start, end = float(span.get("gte", 0)), float(span.get("lte", 1e12))
    kinds = filters.get("type", {})
    if not isinstance(kinds, dict) or not isinstance(kinds.get("in", []), list):
        raise Refusal(400, "invalid_request", "type needs the operator in")
    by_contract: dict[int, list[Entry]] = defaultdict(list)
    for entry in world.state.ledger.between(start, end):
        if entry.contract in kinds.get("in", [entry.contract]):
            by_contract[entry.instance_id].append(entry)
    results = [_charge(world, contract_id, entries) for contract_id, entries in sorted(by_contract.items())]
    if request.query.get("latest_first", "true").lower() == "true":
        results.reverse()
    return _page(request, results, default=100)


async def invoices(request: web.Request) -> Answer:
    """GET /api/v1/invoices/: what was paid in."""
    world = owner_of(request)
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
    return _page(request, [paid], default=60)


async def old_invoices(request: web.Request) -> Answer:
    """GET /users/me/invoices."""
    world = owner_of(request)
    world.settle()
    rows = [
        {
            "type": "charge",
            "description": f"{entry.contract.capitalize()} {entry.instance_id} {entry.kind}",
            "quantity": f"{entry.quantity:.6f}",
            "rate": f"{entry.rate:.6f}",
            "amount": f"{entry.usd:.6f}",
            "timestamp": entry.end,
            "instance_id": entry.instance_id,
        }
        for entry in world.state.ledger.entries
    ]
    total = world.state.ledger.total()
    current = {"charges": total, "service_fee": 0, "total": total, "credit": world.credit()}
    return {"invoices": rows, "current": current}


async def audit_logs(request: web.Request) -> list[Any]:
    """GET /audit_logs/: what was done through the API."""
    return list(owner_of(request).state.audit)


def read_key(asked: Any) -> str:
    """The public key that was sent; refuses what is not one."""
    text = asked.get("ssh_key")
    if not isinstance(text, str) or not text.strip():
        raise Refusal(400, "no_ssh_key", "ssh_key is required")
    try:
        asyncssh.import_public_key(text.strip())
    except asyncssh.KeyImportError:
        raise Refusal(400, "invalid_args", "ssh_key is not a public key") from None
    return " ".join(text.split())


def _key_row(world: World, key: AttachedKey) -> Answer:
    created = dt.datetime.fromtimestamp(key.attached_at, dt.UTC).isoformat()
    user = world.scenario.account.user_id
    return {"id": key.id, "user_id": user, "key": key.public_key, "created_at": created, "deleted_at": None}


def _charge(world: World, contract_id: int, entries: list[Entry]) -> Answer:
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


def _page(request: web.Request, results: list[Any], *, default: int) -> Answer:
    start, length = page_of(request, default=default, most=100)
    page = results[start : start + length]
    return {
        "success": True,
        "count": len(page),
        "total": len(results),
        "next_token": next_token(start, length, len(results)),
        "results": page,
    }
