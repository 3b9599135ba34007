"""Meaning of Vast.ai's JSON rows. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from harness.core.ids import InstanceId, VolumeId
from harness.core.money import per_hour
from harness.core.ports import Account, Bill, Charge, Endpoint, Instance, InstanceStatus, PendingPrice, Volume
from harness.core.text import printable
from harness.providers.row import Row

_SSH = "22/tcp"
_FATAL = (
    "pull rate limit",
    "manifest unknown",
    "unauthorized",
    "no space left on device",
    "oci runtime create failed",
)
"""Fragments of ``status_msg`` after which an instance never runs."""

_SOURCE = re.compile(r"([a-z]+)-([0-9]{1,18})")


def account(body: Mapping[str, Any], at: float | None = None) -> Account:
    """The account of ``/users/current``; ``credit`` is what is left to spend, ``balance`` where there is none."""
    row = Row("the account", body)
    credit = row.number_or_none("credit")
    return Account(row.identifier("id"), row.number("balance") if credit is None else credit, at)


def instance(value: object) -> Instance:
    """An instance of a single show or of the list."""
    row = Row.of("an instance row", value)
    identity = InstanceId(row.identifier("id"))
    row = Row(f"instance {identity}", row.fields)
    message = printable(row.text("status_msg"))
    return Instance(
        id=identity,
        label=row.text("label") or None,
        status=_status(row.text("actual_status")),
        intended_status=row.text("intended_status"),
        status_message=message,
        machine_id=row.whole("machine_id"),
        gpu_name=row.text("gpu_name"),
        num_gpus=int(row.number_or_none("num_gpus") or 0),  # null on a machine without any
        usd_per_hour=row.number("dph_total"),
        disk_gb=row.number("disk_space"),
        endpoints=_endpoints(row),
        started_at=row.number_or_none("start_date"),
        ends_at=row.number_or_none("end_date"),
        is_bid=row.fields.get("is_bid") is True,
        volumes=tuple(VolumeId(number) for number in _numbered(row, "volume_info")),
        failure=message if any(fatal in message.lower() for fatal in _FATAL) else None,
        disk_usd_per_hour=row.price_or_none("storage_total_cost"),
    )


def pending_price(value: object) -> tuple[int, PendingPrice]:
    """The contract that a pending price increase is about, and the price; what has no new price keeps its old one."""
    row = Row.of("a pending price increase", value)
    by_second = [
        row.number(f"{'old' if row.fields.get(f'new_{part}') is None else 'new'}_{part}")
        for part in ("gpu_costpersec", "disk_ram_costpersec")
    ]
    ends = row.number_or_none("contract_end_date"), row.number_or_none("ask_end_date")
    return row.identifier("contract_id"), PendingPrice(per_hour(math.fsum(by_second)), *ends)


def volume(value: object) -> Volume:
    """A volume of the list."""
    row = Row.of("a volume row", value)
    identity = VolumeId(row.identifier("id"))
    row = Row(f"volume {identity}", row.fields)
    return Volume(
        id=identity,
        label=row.text("label") or None,
        machine_id=int(row.number_or_none("machine_id") or 0),  # a network volume is on none
        size_gb=row.number("disk_space"),
        usd_per_hour=row.number_or_none("storage_total_cost"),
        instances=tuple(InstanceId(number) for number in _numbered(row, "instances")),
    )


def bill(value: object) -> Bill:
    """Sum of one result of ``/charges/``; its contract is named ``<kind>-<number>``."""
    row = Row.of("a charge", value)
    source = _SOURCE.fullmatch(row.text("source"))
    if source is None:
        raise row.odd("source", "the name of a contract")
    details = row.fields.get("metadata")
    label = Row(row.what, details).text("label") if isinstance(details, Mapping) else ""
    parts = _parts(row)
    starts = [part.number_or_none("start") for part in parts]
    return Bill(
        kind=source[1],
        id=int(source[2]),
        label=label or None,
        usd=math.fsum(part.number("amount") for part in parts),
        until=max(part.number("end") for part in parts),
        since=min((one for one in starts if one is not None), default=None),
    )


def charges_of(instance_id: InstanceId, value: object) -> tuple[Charge, ...]:
    """Charges for an instance in one result of ``/charges/``; none when it is about another contract."""
    row = Row.of("a charge", value)
    if row.text("source") != f"instance-{instance_id}":
        return ()
    return tuple(
        Charge(instance_id, part.text("type"), part.number("amount"), part.number("start"), part.number("end"))
        for part in _parts(row)
    )


def _parts(row: Row) -> list[Row]:
    """Parts of a charge: its items, or itself where it has none."""
    return [Row.of("a charge's item", item) for item in row.items("items")] or [row]


def _numbered(row: Row, name: str) -> list[int]:
    """The ids in a list of objects, or of bare numbers; none where the field is missing or null."""
    if row.fields.get(name) is None:
        return []
    items = [item if isinstance(item, Mapping) else {"id": item} for item in row.items(name)]
    return [Row(f"{row.what}: {name}", item).identifier("id") for item in items]


def _status(word: str) -> InstanceStatus:
    """Null means provisioning; a word that Vast.ai adds later is a status that is not known here."""
    try:
        return InstanceStatus(word) if word else InstanceStatus.PROVISIONING
    except ValueError:
        return InstanceStatus.UNKNOWN


def _endpoints(row: Row) -> tuple[Endpoint, ...]:
    """Where SSH may answer: the machine's own address first, then Vast.ai's proxy.

    As the official command line resolves it: the direct port is the mapping of 22/tcp, there
    only while the instance runs; a proxy port in front of Jupyter is one higher.
    """
    found: list[Endpoint] = []
    ports = row.fields.get("ports")
    mapped = ports.get(_SSH) if isinstance(ports, Mapping) else None
    if mapped and row.text("public_ipaddr"):
        first = mapped[0] if isinstance(mapped, list) else None
        mapping = Row.of(f"{row.what}: the mapping of {_SSH}", first)
        found.append(Endpoint(row.host("public_ipaddr"), mapping.port("HostPort"), "direct"))
    if row.text("ssh_host") and row.fields.get("ssh_port") is not None:
        behind_jupyter = "jupyter" in row.text("image_runtype")
        found.append(Endpoint(row.host("ssh_host"), row.port("ssh_port") + behind_jupyter, "proxy"))
    return tuple(found)
