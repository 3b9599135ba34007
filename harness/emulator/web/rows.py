"""An instance as the API shows it."""

from __future__ import annotations

from harness.core.money import GB
from harness.core.ports import Json
from harness.emulator.freeport import HOST
from harness.emulator.rental import RentedInstance, Status
from harness.emulator.state import RentedVolume


def instance_row(
    rental: RentedInstance, now: float, *, used: int | None = None, volume: RentedVolume | None = None
) -> dict[str, Json]:
    """All members of an instance's row; ``ports`` is there only while it runs, as clients of the service know it.

    ``used``: bytes on its disk, None before they were measured, which the service shows as -1.
    """
    ask = rental.ask
    row = ask.row(now, rental.disk_gb, bid=rental.is_bid)
    disk_hour = ask.storage_per_hour(rental.disk_gb)
    total = rental.price_per_hour + disk_hour
    up = rental.running_since is not None
    for only_on_offers in ("ask_contract_id", "rented", "discounted_dph_total", "reliability", "duration", "verified"):
        del row[only_on_offers]
    row.update(
        {
            "id": rental.id,
            "actual_status": None if rental.status is Status.PROVISIONING else rental.status.value,
            "intended_status": rental.intended.value,
            "cur_state": rental.intended.value,
            "next_state": rental.intended.value,
            "status_msg": rental.status_msg,
            "label": rental.label,
            "image_uuid": rental.image,
            "image_args": [],
            "image_runtype": rental.runtype,
            "extra_env": [[key, value] for key, value in rental.env.items()],
            "onstart": rental.onstart,
            "jupyter_token": "",
            "template_id": None,
            "template_hash_id": rental.template_hash_id,
            "template_name": None,
            "public_ipaddr": f"{HOST}\n",  # the service sends it with its newline
            "local_ipaddrs": f"{HOST} \n",
            "ssh_host": HOST,
            "ssh_port": rental.proxy_port,
            "ssh_idx": "0",
            "machine_dir_ssh_port": rental.ssh_port,
            "direct_port_start": -1,
            "direct_port_end": -1,
            "start_date": rental.created_at,
            "end_date": rental.end_at,
            "duration": rental.end_at - now,
            "uptime_mins": (now - rental.running_since) / 60.0 if rental.running_since is not None else None,
            "is_bid": rental.is_bid,
            "disk_space": rental.disk_gb,
            "disk_usage": -1 if used is None else used / GB,
            "disk_util": -1 if used is None else used / (rental.disk_gb * GB),
            "gpu_totalram": ask.gpu_ram_mb * ask.num_gpus,
            "gpu_util": 0.0 if up else None,
            "gpu_temp": 31.0 if up else None,
            "cpu_util": 0.0,
            "mem_limit": None,
            "mem_usage": None,
            "vmem_usage": None,
            "dph_base": rental.price_per_hour,
            "dph_total": total,
            "dlperf_per_dphtotal": 90.0 * ask.num_gpus / total,
            "flops_per_dphtotal": 55.0 * ask.num_gpus / total,
            "storage_total_cost": disk_hour,
            "search": {"gpuCostPerHour": rental.price_per_hour, "diskHour": disk_hour, "totalHour": total},
            "instance": {"gpuCostPerHour": rental.price_per_hour, "diskHour": disk_hour, "totalHour": total},
            "credit_balance": None,
            "credit_discount": None,
            "client_run_time": 1.1,
            "host_run_time": 2_592_000.0,
            "country_code": ask.geolocation.rpartition(", ")[2],
            "volume_info": [_mounted(rental, volume)] if volume is not None else [],
        }
    )
    if up:
        row["ports"] = {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(rental.ssh_port)}]}  # noqa: S104  # docker's words
    return row


def _mounted(rental: RentedInstance, volume: RentedVolume) -> dict[str, Json]:
    return {
        "id": volume.id,
        "name": volume.name or f"V.{volume.id}",
        "mount_path": rental.mount_path,
        "total_space": volume.size_gb,
    }
