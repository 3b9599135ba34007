"""SkyPilot's Vast provisioner, unmodified, on the embedded Vast.ai: ``python -m tests.support.skypilot_provisioner``.

It launches a cluster of one, lists it, asks what it is, stops it, starts it again and terminates it. Ends with 1 and a
traceback where the two do not understand each other. SkyPilot pins packages that others pin differently: it has an
environment of its own (``tox -e skypilot``).
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness.emulator.running import Emulator, running
from tests.support.emulator_kit import key_pair, scenario

CLUSTER = "field"
REGION = "Sweden, SE"


def config(public_key: Path) -> dict[str, Any]:
    """Members of SkyPilot's ProvisionConfig for one node of eight H100."""
    node = {
        "InstanceType": "8x-H100_SXM-192-1548000",
        "DiskSize": 50,
        "Preemptible": False,
        "ImageId": "pytorch/pytorch:2.6.0-cuda12.4-cudnn9-devel",
    }
    return {
        "provider_config": {"secure_only": True},
        "authentication_config": {"ssh_public_key": str(public_key)},
        "docker_config": {},
        "node_config": node,
        "count": 1,
        "tags": {},
        "resume_stopped_nodes": True,
        "ports_to_open_on_launch": None,
    }


def rehearse(emulator: Emulator, folder: Path) -> None:
    """The life of a cluster."""
    from sky.provision import common
    from sky.provision.vast import instance

    def status() -> list[str]:
        found = instance.query_instances(CLUSTER, CLUSTER, provider_config={}, non_terminated_only=False)
        return [str(one[0].value) for one in found.values() if one[0] is not None]

    wanted = config(key_pair(folder).with_suffix(".pub"))
    assert status() == []
    record = instance.run_instances(REGION, CLUSTER, CLUSTER, common.ProvisionConfig(**wanted))
    assert status() == ["UP"]
    assert [rental.label for rental in emulator.world.visible()] == [f"{CLUSTER}-head"]
    known = instance.get_cluster_info(REGION, CLUSTER, provider_config={})
    assert known.head_instance_id == record.head_instance_id
    instance.stop_instances(CLUSTER)
    emulator.settle()
    assert status() == ["STOPPED"]
    instance.run_instances(REGION, CLUSTER, CLUSTER, common.ProvisionConfig(**wanted))
    assert status() == ["UP"]
    instance.terminate_instances(CLUSTER)
    emulator.settle()
    assert status() == []
    assert not emulator.world.rentals()


def main() -> int:
    """Run it in a directory of its own."""
    with tempfile.TemporaryDirectory() as name, running(Path(name), scenario=scenario(isolation="none")) as emulator:
        # Read by the official client when SkyPilot imports it, from here on.
        os.environ.update(VAST_URL=emulator.url, VAST_API_KEY=emulator.key, HOME=name)
        rehearse(emulator, Path(name))
    print("launched, listed, stopped, started and terminated")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
