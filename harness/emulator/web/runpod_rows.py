"""Pods, GPU types and bills as RunPod's API shows them."""

from __future__ import annotations

import datetime as dt
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from harness.emulator.charges import ChargeEntry
from harness.emulator.freeport import HOST
from harness.emulator.market import DAY_S, Ask
from harness.emulator.rental import RentedInstance, Status

GPU_IDS: Mapping[str, str] = {
    "A100 SXM4": "NVIDIA A100-SXM4-80GB",
    "H100 NVL": "NVIDIA H100 NVL",
    "H100 SXM": "NVIDIA H100 80GB HBM3",
    "H200": "NVIDIA H200",
    "RTX 4090": "NVIDIA GeForce RTX 4090",
}
"""RunPod's ids of the GPUs in this world's market; what has none here is not on offer."""

_WORDS: Mapping[Status, str] = {
    Status.PROVISIONING: "PROVISIONING",
    Status.CREATED: "PROVISIONING",
    Status.LOADING: "STARTING",
    Status.REBOOTING: "STARTING",
    Status.RUNNING: "RUNNING",
    Status.STOPPED: "EXITED",
}
ACTIONS = {
    "RUNNING": ["stop", "restart", "terminate"],
    "EXITED": ["start", "terminate"],
    "ERROR": ["start", "terminate"],
}
BOOTING = ("stop", "terminate")
PLACE = "EU-SE-1"
_ID = re.compile(r"p([0-9a-f]{1,15})")


def gpu_type(name: str, asks: list[Ask], count: int, min_cuda: str) -> dict[str, Any]:
    """A type of the catalogue, with the stock of machines that have exactly so many of it."""
    fits = [one for one in asks if one.num_gpus == count and one.cuda_max_good >= float(min_cuda)]
    free = [one for one in fits if not one.rented]
    price = min(one.dph_base / one.num_gpus for one in free or fits or asks)
    versions = sorted({one.cuda_max_good for one in fits})
    return {
        "id": GPU_IDS[name],
        "name": name,
        "pool": None,
        "manufacturer": "NVIDIA",
        "memory": asks[0].gpu_ram_mb // 1024,
        "secure": True,
        "community": False,
        "price": {"secure": price, "community": price},
        "maxCount": {"secure": max(one.num_gpus for one in asks), "community": 0},
        "availability": ("NONE", "LOW", "MEDIUM", "HIGH")[min(len(free), 3)],
        "cudaVersions": [
            {"version": str(one), "available": any(free_one.cuda_max_good == one for free_one in free)}
            for one in versions
        ],
    }


def amounts(entries: Iterable[ChargeEntry]) -> dict[str, float]:
    """Sums of charges by kind, as a bill shows them."""
    sums: dict[str, float] = defaultdict(float)
    for one in entries:
        sums[one.kind] += one.usd
    return {"totalAmount": sum(sums.values()), "gpuAmount": sums["gpu"], "cpuAmount": 0.0, "diskAmount": sums["disk"]}


def billed(query: Mapping[str, Any], records: list[dict[str, Any]], unique: str, key: str) -> dict[str, Any]:
    """A bill: its records, and the sums over them."""
    totals: dict[str, float] = defaultdict(float)
    for record in records:
        for name, value in record.items():
            if name.endswith("Amount"):
                totals[name] += value
    metadata = {"query": dict(query), "recordCount": len(records), "totals": totals}
    return {"records": records, "metadata": {**metadata, unique: len({record[key] for record in records})}}


def span(day: float) -> dict[str, str]:
    """The day that begins then."""
    return {"startTime": moment(day).isoformat(), "endTime": moment(day + DAY_S).isoformat()}


def moment(seconds: float) -> dt.datetime:
    """A moment, with its zone."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def volume_id(number: int) -> str:
    """A volume's id, which is a text at RunPod."""
    return f"v{number:x}"


def number_of_pod(text: str) -> int | None:
    """The instance behind a pod's id; None for what is none."""
    found = _ID.fullmatch(text)
    return int(found[1], 16) if found else None


def pod_id(number: int) -> str:
    """A pod's id, which is a text at RunPod."""
    return f"p{number:x}"


def word_of(rental: RentedInstance) -> str:
    """A pod's status."""
    return _WORDS.get(rental.status, "ERROR")


def pod(rental: RentedInstance, now: float) -> dict[str, Any]:
    """A pod with all of its fields."""
    word, ask = word_of(rental), rental.ask
    up = rental.running_since is not None and word == "RUNNING"
    direct = {"host": HOST, "port": rental.ssh_port, "username": "root", "command": f"ssh root@{HOST}"}
    volume = (
        {"volumeId": volume_id(rental.volume_id), "path": rental.mount_path} if rental.volume_id is not None else None
    )
    own = {"size": int(rental.disk_gb), "path": "/workspace"}
    began = rental.running_since if rental.running_since is not None else rental.boot_at
    return {
        "id": pod_id(rental.id),
        "name": rental.label or "",
        "status": word,
        "actions": list(ACTIONS.get(word, BOOTING)),
        "image": rental.image,
        "args": "",
        "disk": int(rental.disk_gb),
        "mounts": {"network": [{"volumeId": volume, "path": rental.mount_path}]} if volume else {"persistent": own},
        "ports": ["22/tcp"],
        "env": rental.env,
        "registry": None,
        "gpu": {"id": GPU_IDS.get(ask.gpu_name, ask.gpu_name), "count": ask.num_gpus},
        "cloud": "SECURE",
        "dataCenterId": PLACE,
        "cudaVersion": str(ask.cuda_max_good),
        "ssh": {"proxy": None, "direct": direct if up else None},
        "template": None,
        "cost": 0.0 if word == "EXITED" else rental.price_per_hour,
        "locked": False,
        "globalNetworking": {"enabled": False},
        "runtime": {"uptime": int(now - began)} if up else None,
        "createdAt": moment(rental.created_at).isoformat(),
        "startedAt": moment(began).isoformat(),
    }
