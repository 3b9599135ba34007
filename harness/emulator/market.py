"""The market: machines on offer, and the query language that finds them.

Field names, units and comparison operators are those of the official client
(vastai 1.9.1, ``vastai/api/query.py``): memory in MB, durations in seconds,
bandwidth in Mbit/s, prices in USD, numbers that may travel as strings.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from harness.core.ports import Json
from harness.emulator.refusal import Refusal, invalid
from harness.emulator.request import Request

HOURS_PER_MONTH = 730.0
"""``storage_cost`` is USD per GB and month; a month is 8760 / 12 hours."""

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Ask:
    """A machine on offer. Prices in USD: by the hour for GPUs, by GB and month for disk, by GB for traffic."""

    gpu_name: str
    dph_base: float
    num_gpus: int = 1
    gpu_ram_mb: int = 81_559
    reliability: float = 0.995
    cuda_max_good: float = 12.8
    driver_version: str = "570.124.06"
    disk_space: float = 2000.0
    duration_days: float = 30.0
    direct_port_count: int = 100
    inet_down: float = 7500.0
    inet_up: float = 6800.0
    inet_down_cost: float = 0.002
    inet_up_cost: float = 0.002
    storage_cost: float = 0.15
    cpu_cores: int = 192
    cpu_ram_mb: int = 1_548_000
    geolocation: str = "Sweden, SE"
    verified: bool = True
    min_bid: float = 0.0
    rented: bool = False
    id: int = 0
    machine_id: int = 0

    def storage_per_hour(self, disk_gb: float) -> float:
        """USD per hour for a disk of that many GB, in any state of the instance."""
        return disk_gb * self.storage_cost / HOURS_PER_MONTH

    def row(self, now: float, disk_gb: float, *, bid: bool) -> dict[str, Json]:
        """The offer as ``/bundles/`` lists it."""
        base = self.min_bid if bid else self.dph_base
        total = base + self.storage_per_hour(disk_gb)
        tflops = 55.0 * self.num_gpus
        dlperf = 90.0 * self.num_gpus
        own = asdict(self)
        days, gpu_ram, cpu_ram = (own.pop(name) for name in ("duration_days", "gpu_ram_mb", "cpu_ram_mb"))
        return own | {
            "ask_contract_id": self.id,
            "bundle_id": self.machine_id * 10,
            "host_id": self.machine_id * 3,
            "hosting_type": 1,
            "gpu_ram": gpu_ram,
            "gpu_total_ram": gpu_ram * self.num_gpus,
            "gpu_frac": 1.0,
            "gpu_arch": "nvidia",
            "gpu_lanes": 16,
            "gpu_mem_bw": 2600.0,
            "gpu_max_power": 700.0,
            "gpu_max_temp": 87.0,
            "gpu_display_active": False,
            "bw_nvlink": 300.0,
            "compute_cap": 900,
            "cpu_name": "Xeon Platinum 8480C",
            "cpu_arch": "amd64",
            "cpu_cores_effective": float(self.cpu_cores),
            "cpu_ghz": 3.8,
            "cpu_ram": cpu_ram,
            "has_avx": 1,
            "disk_name": "SAMSUNG MZQL27T6",
            "disk_bw": 4200.0,
            "static_ip": True,
            "public_ipaddr": "127.0.0.1",
            "datacenter": 1,
            "storage_total_cost": self.storage_per_hour(disk_gb),
            "dph_base": base,
            "dph_total": total,
            "discounted_dph_total": total,
            "search": {"gpuCostPerHour": base, "diskHour": self.storage_per_hour(disk_gb), "totalHour": total},
            "is_bid": bid,
            "duration": days * DAY_S,
            "start_date": now,
            "end_date": now + days * DAY_S,
            "reliability2": self.reliability,
            "verification": "verified" if self.verified else "unverified",
            "vericode": 1 if self.verified else 0,
            "external": False,
            "rentable": not self.rented,
            "dlperf": dlperf,
            "dlperf_per_dphtotal": dlperf / total,
            "flops_per_dphtotal": tflops / total,
            "total_flops": tflops,
            "score": dlperf / total,
            "vram_costperhour": total / (gpu_ram * self.num_gpus),
            "pci_gen": 5.0,
            "pcie_bw": 52.0,
            "mobo_name": "Emulated board",
            "os_version": "22.04",
            "ubuntu_version": "22.04",
            "vms_enabled": False,
            "cluster_id": None,
            "credit_discount_max": 0.4,
            "time_remaining": "",
            "time_remaining_isbid": "",
            "resource_type": "gpu",
            "webpage": None,
            "logo": "/static/logos/vastai_small2.png",
        }


def numbered(asks: Iterable[Ask], first_id: int, first_machine: int) -> tuple[Ask, ...]:
    """The same offers with ids of their own, each on a machine of its own."""
    return tuple(replace(ask, id=first_id + at, machine_id=first_machine + at) for at, ask in enumerate(asks))


DEFAULT_MARKET = numbered(
    (
        Ask("H100 SXM", 15.92, 8, min_bid=8.40),
        Ask("H100 SXM", 17.60, 8, reliability=0.999, geolocation="Texas, US", min_bid=9.10),
        Ask("H100 SXM", 2.05, reliability=0.990, min_bid=1.05),
        Ask("H100 NVL", 1.95, gpu_ram_mb=95_830, geolocation="California, US", min_bid=1.00),
        Ask("H200", 2.60, gpu_ram_mb=143_771, min_bid=1.70),
        Ask("H200", 21.40, 8, 143_771, geolocation="Iceland, IS", min_bid=13.90),
        Ask("A100 SXM4", 7.90, 8, 81_920, geolocation="Czechia, CZ", min_bid=4.20),
        Ask("A100 SXM4", 0.98, gpu_ram_mb=81_920, min_bid=0.55),
        Ask("RTX 4090", 0.36, gpu_ram_mb=24_564, reliability=0.981, direct_port_count=0, min_bid=0.20),
        Ask("H100 SXM", 12.40, 8, reliability=0.62, verified=False, min_bid=6.00),
    ),
    7_100_001,
    30_001,
)
"""A handful of plausible offers: the 8x H100 just under 16 USD an hour, its rivals, and two that should be refused."""

Finite = Annotated[float, Field(allow_inf_nan=False)]


class SearchSettings(Request):
    """Settings of a search beside its tests. Numbers may travel as strings; disk in GB."""

    allocated_storage: Finite = 5.0
    type: Annotated[str, BeforeValidator(str)] = ""
    order: tuple[tuple[str, Literal["asc", "desc"]], ...] = ()
    limit: Finite | None = None


_SETTINGS = {*SearchSettings.model_fields, "disable_bundling", "select_cols", "q", "chunked", "georegion"}
"""Members of a query that are no tests. The last two round sizes and widen places: here they change nothing."""


def search(
    asks: Iterable[Ask], query: Mapping[str, Json], now: float, *, volumes: bool = False
) -> list[dict[str, Json]]:
    """The offers that fit a query, in its order. Raises Refusal(400) on a query that cannot be read."""
    asked = SearchSettings.read(query)
    rows = [ask.row(now, asked.allocated_storage, bid=asked.type in {"bid", "interruptible"}) for ask in asks]
    rows = [{**row, **_of_volume(row)} for row in rows] if volumes else rows
    wanted = {field: test for field, test in query.items() if field not in _SETTINGS}
    return arranged(rows, wanted, asked.order, asked.limit)


def _of_volume(row: Mapping[str, Json]) -> dict[str, Json]:
    """Columns that only the offer of a machine's disk as a volume has; those of network volumes hold nothing."""
    network: dict[str, Json] = dict.fromkeys(("nw_disk_min_bw", "nw_disk_avg_bw", "nw_disk_max_bw"))
    return network | {
        "cuda_vers": row["cuda_max_good"],
        "driver_vers": row["driver_version"],
        "geolocode": _country(row["geolocation"]),
        "reliability_mult": row["reliability"],
        "vericode": str(row["vericode"]),
    }


def arranged(
    rows: Iterable[dict[str, Json]],
    wanted: Mapping[str, Json],
    order: Sequence[tuple[str, str]] = (),
    limit: float | None = None,
) -> list[dict[str, Json]]:
    """The rows that fit every test, in that order. Raises Refusal(400) naming a field that no row has."""
    rows = list(rows)
    for field in (*wanted, *(field for field, _ in order)):
        if rows and field not in rows[0]:
            raise invalid(f"unknown field {field!r}")
    found = [row for row in rows if all(fits(row, field, test) for field, test in wanted.items())]
    for field, direction in reversed(order):
        found.sort(key=partial(sortable, field), reverse=direction == "desc")
    return found if limit is None else found[: int(limit)]


def fits(row: Mapping[str, Json], field: str, test: Json) -> bool:
    """True for a row whose field passes all comparisons of a test, such as ``{"gte": 8}``. Raises Refusal(400)."""
    if not isinstance(test, dict):
        raise invalid(f"{field!r} needs an operator, such as {{'eq': ...}}")
    value = _comparable(field, row.get(field))
    return all(compare(value, operator, _comparable(field, limit)) for operator, limit in test.items())


def compare(left: Json, operator: str, right: Json) -> bool:
    """One comparison of the query language; numbers may be strings. Raises Refusal(400) on an unknown operator."""
    if operator in {"in", "notin"}:
        if not isinstance(right, list):
            raise invalid(f"{operator!r} needs a list")
        return any(_equal(left, item) for item in right) == (operator == "in")
    if operator in {"eq", "neq"}:
        return _equal(left, right) == (operator == "eq")
    if operator not in {"gt", "gte", "lt", "lte"}:
        raise invalid(f"unknown operator {operator!r}")
    if right is None:
        raise invalid(f"{operator!r} needs a value")
    if left is None:
        return False
    first, second = _number(left), _number(right)
    return {"gt": first > second, "gte": first >= second, "lt": first < second, "lte": first <= second}[operator]


def _country(value: Json) -> Json:
    """Two-letter code of a country, which alone is compared: of ``"SE"`` and of a row's ``"Sweden, SE"``."""
    return value.rpartition(", ")[2].upper() if isinstance(value, str) else value


def _version(value: Json) -> Json:
    """Version as a number of three digits a part, which is how the official client sends one with three parts."""
    if not isinstance(value, str) or not re.fullmatch(r"\d{1,3}(\.\d{1,3}){0,2}", value):
        return value
    major, minor, patch = (*map(int, value.split(".")), 0, 0)[:3]
    return (major * 1000 + minor) * 1000 + patch


_READINGS: Mapping[str, Callable[[Json], Json]] = {"geolocation": _country, "driver_version": _version}
"""Fields that are not compared as they are shown."""


def _comparable(field: str, value: Json) -> Json:
    reading = _READINGS.get(field)
    if reading is None:
        return value
    return [reading(item) for item in value] if isinstance(value, list) else reading(value)


def _equal(left: Json, right: Json) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return _truth(left) == _truth(right)
    if isinstance(left, int | float):
        try:
            return left == _number(right)
        except Refusal:
            return False
    return left == right


def _truth(value: Json) -> Json:
    """Yes or no, which some fields hold as 1 or 0 and a query may send as a word."""
    words: dict[str, Json] = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    return words.get(str(value).lower(), value)


def _number(value: Json) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise invalid(f"not a number: {value!r}")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise invalid(f"not a number: {str(value)[:80]!r}") from None
    if not math.isfinite(number):
        raise invalid(f"not a number: {value!r}")
    return number


def sortable(field: str, row: Mapping[str, Json]) -> tuple[bool, float, str]:
    """Place of a row in an order by one field: nothing comes first, then numbers, then texts."""
    value = _comparable(field, row.get(field))
    if isinstance(value, int | float):
        return True, float(value), ""
    return value is not None, 0.0, str(value)
