"""Meaning of RunPod's JSON: pods, volumes, bills. Pure. What each field is believed to mean is in assumptions.py."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from harness.core.errors import ProviderUnavailable
from harness.core.ids import InstanceId, VolumeId, instance_id, number_of
from harness.core.money import storage_per_hour
from harness.core.ports import Account, Bill, Charge, Endpoint, Instance, InstanceStatus, Volume
from harness.providers.row import Row
from harness.providers.runpod.market import STOPPED_USD_PER_GB_MONTH, gpu_name, running_storage

KEY_VARIABLE = "PUBLIC_KEY"
GONE = "TERMINATED"
_STATUS: Mapping[str, InstanceStatus] = {
    "PROVISIONING": InstanceStatus.PROVISIONING,
    "STARTING": InstanceStatus.LOADING,
    "RUNNING": InstanceStatus.RUNNING,
    "EXITED": InstanceStatus.STOPPED,
    "ERROR": InstanceStatus.EXITED,
}
_KINDS = {"gpuAmount": "gpu", "cpuAmount": "cpu", "diskAmount": "disk"}


def account(body: Mapping[str, Any], at: float | None) -> Account:
    """The account of GraphQL's ``myself``; its id is a text, which a number of ours stands for."""
    data = Row.of("the account: data", body.get("data"))
    myself = Row.of("the account", data.fields.get("myself"))
    if not myself.text("id"):
        raise myself.odd("id", "an id")
    return Account(number_of(myself.text("id")), myself.number("clientBalance"), at)


def pod_id(row: Row, name: str) -> InstanceId:
    """A pod's id."""
    try:
        return instance_id(row.text(name))
    except ValueError:
        raise row.odd(name, "a pod's id") from None


def pod(value: object) -> Instance | None:
    """A pod of a single show or of the list; None for one that the service itself calls deleted."""
    row = Row.of("a pod", value)
    identity = pod_id(row, "id")
    row = Row(f"pod {identity}", row.fields)
    word = row.text("status")
    if word == GONE:
        return None
    status = _STATUS.get(word, InstanceStatus.UNKNOWN)
    stopped = status is InstanceStatus.STOPPED
    gpu = Row.of(f"{row.what}: gpu", row.fields.get("gpu") or {"id": "", "count": 0})  # a CPU pod has none
    mounts = Row.of(f"{row.what}: mounts", row.fields.get("mounts"))
    mounted = mounts.fields.get("persistent")
    mounted_gb = Row.of(f"{row.what}: mounts.persistent", mounted).number("size") if mounted is not None else 0.0
    disk_gb, kept = row.number("disk"), storage_per_hour(mounted_gb, STOPPED_USD_PER_GB_MONTH)
    return Instance(
        id=identity,
        label=row.text("name") or None,
        status=status,
        intended_status="stopped" if stopped else "running",
        status_message=word,
        machine_id=0,
        gpu_name=gpu_name(gpu.text("id")),
        num_gpus=gpu.whole("count") if "count" in gpu.fields else 1,
        usd_per_hour=row.number("cost") + (kept if stopped else running_storage(disk_gb, mounted_gb)),
        disk_gb=mounted_gb or disk_gb,
        endpoints=_endpoints(row),
        started_at=_seconds(row, "createdAt"),
        ends_at=None,
        is_bid=False,
        volumes=tuple(_volumes(row, mounts)),
        failure="the container is in an unrecoverable error state" if word == "ERROR" else None,
        disk_usd_per_hour=kept,
    )


def public_keys(value: object) -> str:
    """The SSH public keys with which a pod was created, one a line."""
    env = Row.of("a pod's env", Row.of("a pod", value).fields.get("env"))
    return env.text(KEY_VARIABLE)


def volume(value: object, users: Mapping[VolumeId, tuple[InstanceId, ...]]) -> Volume:
    """A network volume; the API tells no price of it. ``users`` are the pods in which each is mounted."""
    row = Row.of("a network volume", value)
    if not row.text("id"):
        raise row.odd("id", "an id")
    identity = VolumeId(number_of(row.text("id")))
    return Volume(identity, row.text("name") or None, 0, row.number("size"), None, users.get(identity, ()))


def charges(records: Sequence[object], pod: InstanceId, now: float) -> tuple[Charge, ...]:
    """Charges for a pod; a span of the bill that is not over ends now."""
    rows = [Row.of("a billing record", one) for one in records]
    return tuple(
        Charge(pod, kind, row.number(name), _seconds(row, "startTime"), min(now, _seconds(row, "endTime")))
        for row in rows
        for name, kind in _KINDS.items()
        if pod_id(row, "podId") == pod and row.number(name)
    )


def bills(pods: Sequence[object], volumes: Sequence[object], now: float) -> tuple[Bill, ...]:
    """The sum of each pod's and each network volume's records."""
    sums: dict[tuple[str, object], list[tuple[float, float, float]]] = defaultdict(list)
    for one in pods:
        row = Row.of("a billing record", one)
        sums["instance", pod_id(row, "podId")].append(_billed(row, now))
    for one in volumes:
        row = Row.of("a volume's billing record", one)
        sums["volume", number_of(row.text("networkVolumeId"))].append(_billed(row, now))
    return tuple(
        Bill(
            kind,
            which,
            None,
            math.fsum(usd for usd, _, _ in parts),
            max(until for _, _, until in parts),
            min(since for _, since, _ in parts),
        )
        for (kind, which), parts in sums.items()
        if any(usd for usd, _, _ in parts)
    )


def _billed(row: Row, now: float) -> tuple[float, float, float]:
    """Amount of a record (USD), its start and its end."""
    return row.number("totalAmount"), _seconds(row, "startTime"), min(now, _seconds(row, "endTime"))


def _volumes(row: Row, mounts: Row) -> list[VolumeId]:
    entries = mounts.items("network") if mounts.fields.get("network") is not None else []
    return [VolumeId(number_of(Row.of(f"{row.what}: a mount", one).text("volumeId"))) for one in entries]


def _endpoints(row: Row) -> tuple[Endpoint, ...]:
    """The pod's own SSH port; RunPod's proxy runs no command and copies no file."""
    ssh = Row.of(f"{row.what}: ssh", row.fields.get("ssh"))
    direct = ssh.fields.get("direct")
    if direct is None:
        return ()
    way = Row.of(f"{row.what}: ssh.direct", direct)
    return (Endpoint(way.host("host"), way.port("port"), "direct"),)


def _seconds(row: Row, name: str) -> float:
    """A moment (RFC 3339, with a zone), in seconds since the epoch."""
    try:
        moment = datetime.fromisoformat(row.text(name))
    except ValueError:
        raise row.odd(name, "a time") from None
    if moment.tzinfo is None:
        raise ProviderUnavailable(f"{row.what}: {name} has no time zone")
    return moment.timestamp()
