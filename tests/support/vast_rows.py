"""Vast.ai's JSON as its OpenAPI file and its client describe it, to be varied by tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tests.support.scripted_http import Asked, Said, reply

USER = 424242


def instance_row(instance_id: int = 7001, **changes: Any) -> dict[str, Any]:
    """A running instance with both ways to SSH."""
    return {
        "id": instance_id,
        "actual_status": "running",
        "intended_status": "running",
        "cur_state": "running",
        "next_state": "running",
        "label": "gsh-demo-0a1b2c3d",
        "status_msg": "success, running pytorch/pytorch",
        "image_runtype": "ssh_direc ssh_proxy",
        "ssh_host": "ssh5.vast.ai",
        "ssh_port": 17001,
        "public_ipaddr": " 192.0.2.45\n",
        "ports": {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": "20000"}]},
        "machine_id": 12,
        "gpu_name": "H100 SXM",
        "num_gpus": 8,
        "disk_space": 150.0,
        "disk_usage": 3.5,
        "dph_total": 15.9,
        "is_bid": False,
        "start_date": 1_799_999_000.5,
        "end_date": 1_802_000_000.0,
        "extra_env": [],
        **changes,
    }


def offer_row(offer_id: int = 501, **changes: Any) -> dict[str, Any]:
    """Eight H100 for 15.9 USD an hour."""
    return {
        "id": offer_id,
        "machine_id": 12,
        "gpu_name": "H100 SXM",
        "num_gpus": 8,
        "gpu_ram": 81_559,
        "dph_total": 15.9,
        "reliability": 0.995,
        "cuda_max_good": 12.8,
        "driver_version": "570.86.15",
        "disk_space": 2000.0,
        "duration": 2_000_000.0,
        "direct_port_count": 42,
        "inet_up": 4000.0,
        "inet_down": 6000.0,
        "inet_up_cost": 0.002,
        "inet_down_cost": 0.001,
        **changes,
    }


def volume_row(volume_id: int = 9001, **changes: Any) -> dict[str, Any]:
    """A volume that no instance uses."""
    return {
        "id": volume_id,
        "machine_id": 12,
        "label": "data",
        "disk_space": 20.0,
        "storage_total_cost": 0.0041,
        "start_date": 1_799_999_000.5,
        "status": "created",
        "instances": [],
        **changes,
    }


def user(**changes: Any) -> dict[str, Any]:
    """The account."""
    return {"id": USER, "email": "operator@example.invalid", "credit": 42.5, "balance": 0.0, **changes}


def page(rows: Sequence[dict[str, Any]], total: int | None = None, token: str | None = None) -> Said:
    """One page of the v1 list."""
    return reply(
        {
            "success": True,
            "instances_found": len(rows),
            "total_instances": len(rows) if total is None else total,
            "label_counts": {},
            "next_token": token,
            "instances": list(rows),
        }
    )


def paged(rows: Sequence[dict[str, Any]]) -> Any:
    """The v1 list of these rows, 25 a page, as the server pages it."""

    def answer(asked: Asked) -> Said:
        start = int(asked.query.get("after_token", "0"))
        end = start + int(asked.query["limit"])
        return page(rows[start:end], len(rows), str(end) if end < len(rows) else None)

    return answer


def charges(*rows: dict[str, Any], token: str | None = None, total: int | None = None) -> Said:
    """One page of charges."""
    return reply(
        {
            "success": True,
            "count": len(rows),
            "total": len(rows) if total is None else total,
            "next_token": token,
            "results": list(rows),
        }
    )


def charge_row(instance_id: int = 7001, *, gpu: float = 1.0, disk: float = 0.1) -> dict[str, Any]:
    """What one instance was charged."""
    span = {"start": 1_799_999_000, "end": 1_800_000_000}
    items: list[dict[str, Any]] = [
        {"type": kind, "amount": usd, "source": None, "description": "", "items": [], "metadata": {}, **span}
        for kind, usd in (("gpu", gpu), ("disk", disk))
    ]
    total = math.fsum((gpu, disk))
    return {"type": "instance", "source": f"instance-{instance_id}", "amount": total, "items": items, **span}


AUTH_404 = reply({"success": False, "error": "auth_error", "msg": "Invalid user key"}, 404)
RETIRED_410 = reply({"success": False, "error": "deprecated_endpoint", "msg": "Use /api/v1/instances/"}, 410)
EMPTY = Said(200, b"")
HTML_502 = Said(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>", {"Content-Type": "text/html"})
LIMITED = Said(429, b"API requests too frequent endpoint threshold=1.0", {"Content-Type": "text/plain"})
NOT_FOUND = reply({"success": False, "error": "not_found", "msg": "Instance not found"}, 404)
