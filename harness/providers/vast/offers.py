"""Vast.ai's market: what is asked, and what an offer's row means. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.core.canonical import Json
from harness.core.errors import ProviderUnavailable
from harness.core.ids import OfferId
from harness.core.ports import Offer, OfferQuery
from harness.core.text import one_line
from harness.providers.row import Row

_LIMIT = 64

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "A100": ("A100 SXM4", "A100 PCIE"),
    "H100": ("H100 SXM", "H100 NVL", "H100 PCIE"),
    "H200": ("H200", "H200 NVL"),
}
"""Short names that people type, and the market's own (``vastai/data/query.py`` of the official client).

The market compares ``gpu_name`` as a whole: a search for plain ``H100`` finds nothing.
"""


def gpu_names(spelling: str) -> tuple[str, ...]:
    """The market's names for what a person typed: ``H100`` and ``H100_SXM`` both find H100s."""
    plain = " ".join(spelling.replace("_", " ").split())
    return FAMILIES.get(plain.upper(), (plain,))


def search_body(query: OfferQuery) -> dict[str, Json]:
    """The body of a search: on demand, verified, rentable now, the cheapest first with this disk included.

    Numbers are strings, and durations are seconds, as the official command line sends them.
    """
    names = list(dict.fromkeys(name for spelling in query.gpu_names for name in gpu_names(spelling)))
    at_least = {
        "num_gpus": f"{query.num_gpus}",
        "disk_space": f"{query.disk_gb:g}",
        "reliability": f"{query.min_reliability:g}" if query.min_reliability else None,
        "cuda_max_good": f"{query.min_cuda:g}" if query.min_cuda else None,
        "duration": query.min_duration_s or None,
        "inet_down": f"{query.min_inet_down_mbps:g}" if query.min_inet_down_mbps else None,
        "direct_port_count": "1" if query.direct_port else None,
    }
    limits: dict[str, Json] = {name: {"gte": value} for name, value in at_least.items() if value is not None}
    gpu: dict[str, Json] = {"eq": names[0]} if len(names) == 1 else {"in": list(names)}
    return {
        "verified": {"eq": True},
        "external": {"eq": False},
        "rentable": {"eq": True},
        "rented": {"eq": False},
        "gpu_name": gpu,
        **limits,
        "dph_total": {"lte": f"{query.max_usd_per_hour:g}"},
        "order": [["dph_total", "asc"]],
        "type": "on-demand",
        "limit": _LIMIT,
        "allocated_storage": query.disk_gb,
    }


def offers(rows: Sequence[object], query: OfferQuery) -> tuple[Offer, ...]:
    """The offers that fit, the cheapest first.

    Rows are typed in by strangers: one that cannot be read is not an offer. Raises
    ProviderUnavailable when none of them can be read: then it is the format that changed.
    """
    found: list[Offer] = []
    problem: ProviderUnavailable | None = None
    for value in rows:
        try:
            found.append(offer(value))
        except ProviderUnavailable as error:
            problem = error
    if problem is not None and not found:
        raise problem
    return tuple(sorted((one for one in found if _fits(one, query)), key=lambda one: one.usd_per_hour))


def offer(value: object) -> Offer:
    """An offer of the market."""
    row = Row.of("an offer", value)
    return Offer(
        id=OfferId(row.identifier("id")),
        machine_id=row.whole("machine_id"),
        gpu_name=row.text("gpu_name"),
        num_gpus=row.whole("num_gpus"),
        gpu_ram_mb=row.number("gpu_ram"),
        usd_per_hour=row.number("dph_total"),
        reliability=row.number("reliability" if "reliability" in row.fields else "reliability2"),
        cuda_max=row.number("cuda_max_good"),
        driver_version=row.text("driver_version"),
        disk_gb=row.number("disk_space"),
        duration_s=row.number("duration"),
        direct_ports=row.whole("direct_port_count"),
        inet_down_mbps=row.number("inet_down"),
        inet_up_mbps=row.number("inet_up"),
        usd_per_gb_up=row.number("inet_up_cost"),
        usd_per_gb_down=row.number("inet_down_cost"),
        disk_usd_per_hour=row.price_or_none("storage_total_cost"),
        place=_place(row),
    )


def _place(row: Row) -> str:
    """The words for where it stands, which no filter rests on: empty where they read oddly."""
    told = row.fields.get("geolocation")
    return one_line(told, 60).strip(", ") if isinstance(told, str) else ""


def _fits(offer: Offer, query: OfferQuery) -> bool:
    """The same limits once more: a filter that the server overlooks must not cost money."""
    names = {name for spelling in query.gpu_names for name in gpu_names(spelling)}
    return (
        offer.gpu_name in names
        and offer.num_gpus >= query.num_gpus
        and offer.disk_gb >= query.disk_gb
        and offer.usd_per_hour <= query.max_usd_per_hour
        and offer.reliability >= query.min_reliability
        and offer.cuda_max >= query.min_cuda
        and offer.duration_s >= query.min_duration_s
        and offer.inet_down_mbps >= query.min_inet_down_mbps
        and offer.direct_ports >= query.direct_port
    )


def rows_of(body: Mapping[str, Any]) -> list[Any]:
    """The offers of a search's reply."""
    return Row("the search", body).items("offers")
