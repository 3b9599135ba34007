"""RunPod's catalogue: GPU types at a price, no machines. What is asked, and what a row of it means. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.core.canonical import Json
from harness.core.errors import BadInput
from harness.core.ids import OfferId, number_of
from harness.core.money import storage_per_hour
from harness.core.ports import Offer, OfferQuery
from harness.providers.row import Row

CLOUD = "SECURE"
"""RunPod's own data centres, where a pod has a public address; in the community's none can be asked for."""

RUNNING_USD_PER_GB_MONTH = 0.10
STOPPED_USD_PER_GB_MONTH = 0.20
"""Container and volume disk, docs.runpod.io/pods/pricing: the API tells neither. A stopped pod has its volume only."""

_NAMES: Mapping[str, str] = {
    "NVIDIA A100 80GB PCIe": "A100 PCIe",
    "NVIDIA A100-SXM4-80GB": "A100 SXM",
    "NVIDIA H100 80GB HBM3": "H100 SXM",
    "NVIDIA H200": "H200 SXM",
}
"""GPU ids whose display name is not the id without its maker (docs.runpod.io/references/gpu-types)."""

_FAMILIES: Mapping[str, tuple[str, ...]] = {
    "A100": ("A100 PCIe", "A100 SXM"),
    "H100": ("H100 SXM", "H100 NVL", "H100 PCIe"),
    "H200": ("H200 SXM", "H200 NVL"),
}
_NO_END_S = 10 * 365 * 86_400.0
"""A pod on demand ends when its account does; a number is needed, and no training takes ten years."""
_MB_PER_GB = 1024.0


@dataclass(frozen=True, slots=True)
class PodTerms:
    """A GPU type, how many of it, and the lowest CUDA of the host (``major.minor``; empty for any)."""

    gpu_id: str
    count: int
    min_cuda: str

    @property
    def number(self) -> OfferId:
        """The offer's number here: RunPod numbers none."""
        return OfferId(number_of(f"{self.gpu_id}/{self.count}/{self.min_cuda}"))


def gpu_name(gpu_id: str) -> str:
    """The display name of a GPU id: ``NVIDIA H100 80GB HBM3`` is an H100 SXM."""
    return _NAMES.get(
        gpu_id, gpu_id.removeprefix("NVIDIA ").removeprefix("GeForce ").removesuffix(" Generation").strip()
    )


def gpu_names(asked: str) -> tuple[str, ...]:
    """The display names that a person means: ``H100`` and ``H100_SXM`` both find H100s."""
    plain = " ".join(asked.replace("_", " ").split())
    known = {name.upper(): name for names in _FAMILIES.values() for name in names}
    return _FAMILIES.get(plain.upper(), (known.get(plain.upper(), plain),))


def catalogue_query(query: OfferQuery) -> dict[str, Json]:
    """Query for the catalogue. Raises BadInput for a demand that nothing in it could answer."""
    untold = {"min_reliability": query.min_reliability, "min_inet_down_mbps": query.min_inet_down_mbps}
    demanded = [name for name, value in untold.items() if value]
    if demanded:
        raise BadInput(
            f"RunPod publishes nothing that could answer machine.{' and machine.'.join(demanded)}",
            remedy=f"Set {', '.join(f'{name} = 0' for name in demanded)} under [machine] in the job file; the line is "
            "measured after the rental as always.",
        )
    asked: dict[str, Json] = {"include": "AVAILABILITY", "product": "POD", "cloud": CLOUD, "count": query.num_gpus}
    return asked | ({"minCudaVersion": _cuda(query)} if _cuda(query) else {})


def offers(rows: Sequence[object], query: OfferQuery) -> dict[OfferId, tuple[PodTerms, Offer]]:
    """The types that fit and are in stock, the cheapest first. Raises ProviderUnavailable for an odd row."""
    names = {name for asked in query.gpu_names for name in gpu_names(asked)}
    found = [_offer(Row.of("a GPU type", row), query) for row in rows]
    fits = [one for one in found if one is not None and one[1].gpu_name in names]
    fits = [one for one in fits if one[1].usd_per_hour <= query.max_usd_per_hour]
    return {terms.number: (terms, offer) for terms, offer in sorted(fits, key=lambda one: one[1].usd_per_hour)}


def _offer(row: Row, query: OfferQuery) -> tuple[PodTerms, Offer] | None:
    """The terms and the offer of a type; None where so many of it cannot be had now."""
    terms = PodTerms(row.text("id"), query.num_gpus, _cuda(query))
    row = Row(f"GPU type {terms.gpu_id}", row.fields)
    most = Row.of(f"{row.what}: maxCount", row.fields.get("maxCount")).whole(CLOUD.lower())
    stock = row.text("availability")
    if row.fields.get("secure") is not True or most < query.num_gpus or stock not in {"LOW", "MEDIUM", "HIGH"}:
        return None
    price = Row.of(f"{row.what}: price", row.fields.get("price")).number(CLOUD.lower())
    versions = row.items("cudaVersions") if "cudaVersions" in row.fields else []
    cudas = [Row.of(f"{row.what}: a CUDA version", one) for one in versions]
    highest = max((one.number("version") for one in cudas if one.fields.get("available") is True), default=0.0)
    return terms, Offer(
        id=terms.number,
        machine_id=0,
        gpu_name=gpu_name(terms.gpu_id),
        num_gpus=query.num_gpus,
        gpu_ram_mb=row.number("memory") * _MB_PER_GB,
        usd_per_hour=price * query.num_gpus + running_storage(query.disk_gb, query.disk_gb),
        reliability=0.0,
        cuda_max=highest,
        driver_version="",
        disk_gb=query.disk_gb,
        duration_s=_NO_END_S,
        direct_ports=1,
        inet_down_mbps=0.0,
        inet_up_mbps=0.0,
        disk_usd_per_hour=storage_per_hour(query.disk_gb, STOPPED_USD_PER_GB_MONTH),
        place="a RunPod data centre",
    )


def running_storage(disk_gb: float, mounted_gb: float) -> float:
    """USD an hour for the disks of a pod that runs: the container's own, and the one that is mounted in it."""
    return storage_per_hour(disk_gb + mounted_gb, RUNNING_USD_PER_GB_MONTH)


def _cuda(query: OfferQuery) -> str:
    return f"{query.min_cuda:.1f}" if query.min_cuda else ""
