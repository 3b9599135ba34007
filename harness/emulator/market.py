"""The market: machines on offer, and the query language that finds them.

Field names, units and comparison operators are those of the official client
(vastai 1.9.1, ``vastai/api/query.py``): memory in MB, durations in seconds,
bandwidth in Mbit/s, prices in USD, numbers that may travel as strings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from harness.core.ports import Json
from harness.emulator.refusal import Refusal, invalid

HOURS_PER_MONTH = 730.0
"""``storage_cost`` is USD per GB and month; a month is 8760 / 12 hours."""

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Ask:
    """A machine on offer. Prices in USD: by the hour for GPUs, by GB and month for disk, by GB for traffic."""

    id: int
    machine_id: int
    gpu_name: str
    num_gpus: int
    gpu_ram_mb: int
    dph_base: float
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

    def storage_per_hour(self, disk_gb: float) -> float:
        """USD per hour for a disk of that many GB, in any state of the instance."""
        return disk_gb * self.storage_cost / HOURS_PER_MONTH

    def row(self, now: float, disk_gb: float, *, bid: bool) -> dict[str, Json]:
        """The offer as ``/bundles/`` lists it."""
        base = self.min_bid if bid else self.dph_base
        total = base + self.storage_per_hour(disk_gb)
        tflops = 55.0 * self.num_gpus
        dlperf = 90.0 * self.num_gpus
        return {
            "id": self.id,
            "ask_contract_id": self.id,
            "bundle_id": self.machine_id * 10,
            "machine_id": self.machine_id,
            "host_id": self.machine_id * 3,
            "hosting_type": 1,
            "gpu_name": self.gpu_name,
            "num_gpus": self.num_gpus,
            "gpu_ram": self.gpu_ram_mb,
            "gpu_total_ram": self.gpu_ram_mb * self.num_gpus,
            "gpu_frac": 1.0,
            "gpu_arch": "nvidia",
            "gpu_lanes": 16,
            "gpu_mem_bw": 2600.0,
            "gpu_max_power": 700.0,
            "gpu_max_temp": 87.0,
            "gpu_display_active": False,
            "bw_nvlink": 300.0,
            "compute_cap": 900,
            "cuda_max_good": self.cuda_max_good,
            "driver_version": self.driver_version,
            "cpu_name": "Xeon Platinum 8480C",
            "cpu_arch": "amd64",
            "cpu_cores": self.cpu_cores,
            "cpu_cores_effective": float(self.cpu_cores),
            "cpu_ghz": 3.8,
            "cpu_ram": self.cpu_ram_mb,
            "has_avx": 1,
            "disk_name": "SAMSUNG MZQL27T6",
            "disk_space": self.disk_space,
            "disk_bw": 4200.0,
            "direct_port_count": self.direct_port_count,
            "static_ip": True,
            "public_ipaddr": "127.0.0.1",
            "geolocation": self.geolocation,
            "datacenter": 1,
            "inet_down": self.inet_down,
            "inet_up": self.inet_up,
            "inet_down_cost": self.inet_down_cost,
            "inet_up_cost": self.inet_up_cost,
            "storage_cost": self.storage_cost,
            "storage_total_cost": self.storage_per_hour(disk_gb),
            "dph_base": base,
            "dph_total": total,
            "discounted_dph_total": total,
            "search": {"gpuCostPerHour": base, "diskHour": self.storage_per_hour(disk_gb), "totalHour": total},
            "min_bid": self.min_bid,
            "is_bid": bid,
            "duration": self.duration_days * DAY_S,
            "start_date": now,
            "end_date": now + self.duration_days * DAY_S,
            "reliability": self.reliability,
            "reliability2": self.reliability,
            "verified": self.verified,
            "verification": "verified" if self.verified else "unverified",
            "vericode": 1 if self.verified else 0,
            "external": False,
            "rentable": not self.rented,
            "rented": self.rented,
            "dlperf": dlperf,
            "dlperf_per_dphtotal": dlperf / total,
            "flops_per_dphtotal": tflops / total,
            "total_flops": tflops,
            "score": dlperf / total,
            "vram_costperhour": total / (self.gpu_ram_mb * self.num_gpus),
            "pci_gen": 5.0,
            "pcie_bw": 52.0,
            "mobo_name": "Emulated board",
            "os_version": "22.04",
            "ubuntu_version": "22.04",
            "vms_enabled": False,
            "credit_discount_max": 0.4,
            "time_remaining": "",
            "time_remaining_isbid": "",
            "resource_type": "gpu",
            "webpage": None,
            "logo": "/static/logos/vastai_small2.png",
        }


DEFAULT_MARKET: tuple[Ask, ...] = (
    Ask(7_100_001, 30_001, "H100 SXM", 8, 81_559, 15.92, min_bid=8.40),
    Ask(7_100_002, 30_002, "H100 SXM", 8, 81_559, 17.60, reliability=0.999, geolocation="Texas, US", min_bid=9.10),
    Ask(7_100_003, 30_003, "H100 SXM", 1, 81_559, 2.05, reliability=0.990, min_bid=1.05),
    Ask(7_100_004, 30_004, "H100 NVL", 1, 95_830, 1.95, geolocation="California, US", min_bid=1.00),
    Ask(7_100_005, 30_005, "H200", 1, 143_771, 2.60, min_bid=1.70),
    Ask(7_100_006, 30_006, "H200", 8, 143_771, 21.40, geolocation="Iceland, IS", min_bid=13.90),
    Ask(7_100_007, 30_007, "A100 SXM4", 8, 81_920, 7.90, geolocation="Czechia, CZ", min_bid=4.20),
    Ask(7_100_008, 30_008, "A100 SXM4", 1, 81_920, 0.98, min_bid=0.55),
    Ask(7_100_009, 30_009, "RTX 4090", 1, 24_564, 0.36, reliability=0.981, direct_port_count=0, min_bid=0.20),
    Ask(7_100_010, 30_010, "H100 SXM", 8, 81_559, 12.40, reliability=0.62, verified=False, min_bid=6.00),
)
"""A handful of plausible offers: the 8x H100 just under 16 USD an hour, its rivals, and two that should be refused."""

_SETTINGS = {"order", "limit", "type", "allocated_storage", "disable_bundling", "select_cols", "q"}


def search(asks: Iterable[Ask], query: Mapping[str, Json], now: float) -> list[dict[str, Json]]:
    """The offers that fit a query, in its order. Raises Refusal(400) on a query that cannot be read."""
    disk_gb = _number(query.get("allocated_storage", 5.0))
    bid = str(query.get("type")) in {"bid", "interruptible"}
    rows = [ask.row(now, disk_gb, bid=bid) for ask in asks]
    wanted = {field: test for field, test in query.items() if field not in _SETTINGS}
    found = [row for row in rows if all(_fits(row, field, test) for field, test in wanted.items())]
    for field, direction in reversed(_order(query.get("order"))):
        found.sort(key=partial(_sortable, field), reverse=direction == "desc")
    limit = query.get("limit")
    return found if limit is None else found[: int(_number(limit))]


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
    if left is None or right is None:
        return False
    first, second = _number(left), _number(right)
    return {"gt": first > second, "gte": first >= second, "lt": first < second, "lte": first <= second}[operator]


def _fits(row: Mapping[str, Json], field: str, test: Json) -> bool:
    if field not in row:
        raise invalid(f"unknown field {field!r}")
    if not isinstance(test, dict):
        raise invalid(f"{field!r} needs an operator, such as {{'eq': ...}}")
    return all(compare(row[field], operator, value) for operator, value in test.items())


def _equal(left: Json, right: Json) -> bool:
    if isinstance(left, bool):
        return left == (right if isinstance(right, bool) else str(right).lower() in {"true", "1"})
    if isinstance(left, int | float):
        try:
            return left == _number(right)
        except Refusal:
            return False
    return left == right


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


def _order(order: Json) -> Sequence[tuple[str, str]]:
    if order is None:
        return ()
    if not isinstance(order, list):
        raise invalid("'order' needs a list of [field, direction]")
    pairs: list[tuple[str, str]] = []
    for item in order:
        if not isinstance(item, list) or len(item) != 2 or str(item[1]) not in {"asc", "desc"}:
            raise invalid("'order' needs a list of [field, 'asc' or 'desc']")
        pairs.append((str(item[0]), str(item[1])))
    return pairs


def _sortable(field: str, row: Mapping[str, Json]) -> tuple[float, str]:
    value = row.get(field)
    return (float(value), "") if isinstance(value, int | float) else (float("-inf"), str(value))
