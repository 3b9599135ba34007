"""Volumes: mounted where the create says, outliving instance and recycle, billed and listed apart."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.emulator.refusal import Refusal
from harness.emulator.request import VolumeRequest
from harness.emulator.running import Emulator, running
from tests.support.emulator_kit import OFFER, Box, ask, create_request, key_pair, rent, scenario

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS")
HOUR = 3600.0
PLACE = "/workspace/kept"
NEW = VolumeRequest(volume_id=OFFER, mount_path=PLACE, create_new=True, size=730.0, name="data")
SPAN = {"gte": 0, "lte": 4e9}


def _charges(emulator: Emulator, **filters: Any) -> dict[str, float]:
    """What each contract was charged (USD), by its source."""
    query = {"select_filters": json.dumps({"day": SPAN, **filters})}
    results = ask(emulator, "GET", "/api/v0/charges/", params=query).json()["results"]
    assert all(row["source"].startswith(f"{row['type']}-") for row in results)
    return {row["source"]: row["amount"] for row in results}


def _sftp(box: Box, batch: str) -> str:
    line = ["sftp", "-b", "-", "-P", box.port(), *box.options(), "root@127.0.0.1"]
    done = subprocess.run(line, input=batch.encode(), capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def _again(emulator: Emulator, key: Path, volume_id: int) -> Box:
    """Another instance on the same machine, which is offered again once the first is gone, with its volume."""
    machine = emulator.world.state.volumes[volume_id].machine_id
    (offer,) = [one.id for one in emulator.world.state.asks.values() if one.machine_id == machine]
    return rent(emulator, key, offer, volume_info=VolumeRequest(volume_id=volume_id, mount_path=PLACE))


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["auto", "none"])
def test_what_lies_on_a_volume_outlives_recycle_and_destruction(tmp_path: Path, isolation: str) -> None:
    with running(tmp_path / "state", scenario=scenario(isolation=isolation)) as emulator:
        key = key_pair(tmp_path)
        box = rent(emulator, key, volume_info=NEW)
        (volume_id,) = emulator.world.state.volumes
        assert box.ssh("echo by a command > workspace/kept/one").returncode == 0
        (tmp_path / "two").write_text("by sftp\n")
        told = _sftp(box, f"cd {PLACE}\npwd\nput {tmp_path / 'two'}\nls -1\n")
        assert f"Remote working directory: {PLACE}" in told
        assert told.split()[-2:] == ["one", "two"]
        assert box.ssh("cat workspace/kept/two").stdout == b"by sftp\n"
        assert not list(box.root.rglob("one")), "it lies on the instance's own disk"
        emulator.world.reboot(box.id, wipe=True)
        emulator.settle()
        assert box.ssh("ls workspace/kept").stdout.split() == [b"one", b"two"]
        emulator.world.destroy(box.id)
        emulator.settle()
        assert volume_id in emulator.world.state.volumes
        second = _again(emulator, key, volume_id)
        assert second.ssh("cat workspace/kept/one").stdout == b"by a command\n"
        emulator.world.destroy(second.id)
        emulator.settle()
        emulator.world.delete_volume(volume_id)
        emulator.settle()
        assert not any((tmp_path / "state" / "volumes").iterdir())


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with running(tmp_path / "state", scenario=scenario(isolation="none")) as found:
        yield found


def test_a_create_names_its_volume_and_the_rows_name_each_other(emulator: Emulator) -> None:
    about = {"create_new": True, "volume_id": OFFER, "size": 20, "mount_path": "/data", "name": "set"}
    body = {"image": "x", "disk": 20, "volume_info": about}
    made = ask(emulator, "PUT", f"/api/v0/asks/{OFFER}/", json=body).json()["new_contract"]
    (volume,) = ask(emulator, "GET", "/api/v0/volumes/").json()["volumes"]
    assert (volume["label"], volume["disk_space"], volume["instances"]) == ("set", 20.0, [{"id": made}])
    row = ask(emulator, "GET", f"/api/v0/instances/{made}/").json()["instances"]
    (shown,) = row["volume_info"]
    assert (shown["id"], shown["mount_path"]) == (volume["id"], "/data")
    used = ask(emulator, "DELETE", "/api/v0/volumes/", params={"id": volume["id"]})
    assert (used.status_code, "used by" in used.json()["msg"]) == (400, True)
    emulator.world.destroy(made)
    assert ask(emulator, "DELETE", "/api/v0/volumes/", params={"id": volume["id"]}).json()["success"]


@pytest.mark.parametrize(
    ("about", "status"),
    [
        ([1], 400),
        ({"volume_id": OFFER, "create_new": True}, 400),
        ({"volume_id": OFFER, "create_new": True, "mount_path": "data"}, 400),
        ({"volume_id": OFFER, "create_new": True, "mount_path": "/"}, 400),
        ({"volume_id": OFFER, "create_new": True, "mount_path": "/a/../.."}, 400),
        ({"volume_id": OFFER, "create_new": True, "mount_path": "/data", "size": -1}, 400),
        ({"volume_id": OFFER + 1, "create_new": True, "mount_path": "/data"}, 400),
        ({"volume_id": 5, "mount_path": "/data"}, 404),
    ],
)
def test_a_volume_that_cannot_be_is_refused_and_nothing_is_rented(emulator: Emulator, about: Any, status: int) -> None:
    body = {"image": "x", "disk": 20, "volume_info": about}
    assert ask(emulator, "PUT", f"/api/v0/asks/{OFFER}/", json=body).status_code == status
    assert not emulator.world.rentals()
    assert not emulator.world.state.volumes


def test_a_volume_on_another_machine_cannot_be_mounted(emulator: Emulator) -> None:
    volume = emulator.world.create_volume(OFFER, 10.0, "data")
    with pytest.raises(Refusal, match="is not on machine"):
        emulator.world.create(
            OFFER + 1, create_request(volume_info=VolumeRequest(volume_id=volume.id, mount_path=PLACE))
        )


def test_volumes_are_charged_apart_and_go_on_when_the_instance_is_gone(emulator: Emulator) -> None:
    rental = emulator.world.create(OFFER, create_request(volume_info=NEW))
    volume_id = rental.volume_id
    emulator.clock.turn(HOUR)
    emulator.world.destroy(rental.id)
    emulator.clock.turn(HOUR)
    charged = _charges(emulator)
    assert charged[f"volume-{volume_id}"] == pytest.approx(0.3, rel=0.01)
    assert charged[f"instance-{rental.id}"] > 1
    assert set(_charges(emulator, type={"in": ["instance"]})) == {f"instance-{rental.id}"}
    assert set(_charges(emulator, type={"in": ["volume"]})) == {f"volume-{volume_id}"}
    assert _charges(emulator, type={"in": ["serverless"]}) == {}


def test_the_row_tells_how_full_the_disk_is(tmp_path: Path) -> None:
    with running(tmp_path / "state", scenario=scenario(isolation="none")) as emulator:
        rental = emulator.world.create(OFFER, create_request())
        path = f"/api/v0/instances/{rental.id}/"
        emulator.settle()
        emulator.world.stop(rental.id)
        emulator.settle()
        emulator.world.disk_used.pop(rental.id, None)
        row = ask(emulator, "GET", path).json()["instances"]
        assert (row["disk_usage"], row["disk_util"]) == (-1, -1)


@pytest.mark.slow
def test_what_is_written_shows_in_the_row(tmp_path: Path) -> None:
    with running(tmp_path / "state", scenario=scenario()) as emulator:
        box = rent(emulator, key_pair(tmp_path))

        def usage() -> dict[str, float]:
            row: dict[str, float] = ask(emulator, "GET", f"/api/v0/instances/{box.id}/").json()["instances"]
            return row

        (tmp_path / "big").write_bytes(bytes(50_000_000))
        before = usage()["disk_usage"]
        assert 0 <= before < 0.05
        _sftp(box, f"put {tmp_path / 'big'} /workspace/big\n")
        deadline = time.monotonic() + 120
        while (row := usage())["disk_usage"] < 0.05 and time.monotonic() < deadline:
            time.sleep(0.05)  # a disk is measured now and then, in real time
        assert 0.05 <= row["disk_usage"] < 0.15
        assert row["disk_util"] == pytest.approx(row["disk_usage"] / row["disk_space"])
