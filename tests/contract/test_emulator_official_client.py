"""The unmodified official CLI and SDK run an instance's whole life against the emulator."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from harness.emulator.running import Emulator, running
from tests.support.emulator_kit import Box, create_request, key_pair, scenario

CLI = Path(sys.executable).with_name("vastai")
Vastai = Callable[..., subprocess.CompletedProcess[str]]

pytest.importorskip("vastai")


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with running(tmp_path / "state", scenario=scenario()) as found:
        yield found


@pytest.fixture
def vastai(emulator: Emulator, tmp_path: Path) -> Vastai:
    """The command line client, with a home of its own and no look for updates."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "VAST_URL": emulator.url,
        "VASTAI_NO_UPDATE_CHECK": "1",
        "COLUMNS": "300",
        "NO_COLOR": "1",
    }

    def call(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        line = [str(CLI), "--api-key", emulator.key, "--url", emulator.url, *words]
        return subprocess.run(line, env=env, input=stdin, capture_output=True, text=True, timeout=60, check=False)

    return call


def parsed(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not CLI.exists(), reason="the official command line client is not installed")
def test_the_command_line_transcript(emulator: Emulator, vastai: Vastai, tmp_path: Path) -> None:
    key = key_pair(tmp_path)
    offers = parsed(vastai("search", "offers", "gpu_name=H100_SXM num_gpus>=8 rentable=true", "-o", "dph", "--raw"))
    assert offers[0]["gpu_name"] == "H100 SXM"
    assert offers[0]["dph_total"] < 16
    assert "H100_SXM" in vastai("search", "offers", "num_gpus>=8").stdout

    options = ["--image", "pytorch/pytorch", "--disk", "20", "--label", "gsh-test", "--ssh", "--direct"]
    created = parsed(vastai("create", "instance", str(offers[0]["id"]), *options, "--onstart-cmd", "echo up", "--raw"))
    assert created["success"] is True
    instance_id = created["new_contract"]
    name = str(instance_id)
    attached = vastai("attach", "ssh", name, key.with_suffix(".pub").read_text().strip())
    assert "success" in attached.stdout.lower() or "added" in attached.stdout.lower(), attached.stdout
    emulator.settle()
    box = Box(emulator, instance_id, key)

    assert parsed(vastai("show", "instance", name, "--raw"))["actual_status"] == "running"
    assert [row["id"] for row in parsed(vastai("show", "instances", "--raw"))] == [instance_id]
    assert name in vastai("show", "instances").stdout
    assert vastai("ssh-url", name).stdout.strip() == f"ssh://root@127.0.0.1:{box.port()}"
    assert vastai("scp-url", name).stdout.strip() == f"scp://root@127.0.0.1:{box.port()}"
    assert box.ssh("echo hello > workspace/note; cat workspace/note").stdout == b"hello\n"
    assert "SSH HOST KEY KEYS" in vastai("logs", name).stdout
    box.ssh("touch workspace/old")
    # vastai 1.9.1 runs the command and then stumbles over its own answer ('str' object has no attribute 'get').
    vastai("execute", name, "rm /workspace/old")
    assert not (box.root / "workspace/old").exists()
    assert "renamed" in vastai("label", "instance", name, "renamed").stdout
    assert emulator.world.rental(instance_id).label == "renamed"

    assert "stopping" in vastai("stop", "instance", name).stdout
    emulator.settle()
    assert parsed(vastai("show", "instance", name, "--raw"))["actual_status"] == "stopped"
    assert "starting" in vastai("start", "instance", name).stdout
    emulator.settle()
    assert "Rebooting" in vastai("reboot", "instance", name).stdout
    emulator.settle()
    assert box.ssh("cat workspace/note").stdout == b"hello\n"

    assert parsed(vastai("show", "user", "--raw"))["id"] == emulator.world.scenario.account.user_id
    charges = vastai("show", "invoices-v1", "--charges", "--raw")
    assert f"instance-{instance_id}" in charges.stdout, charges.stderr
    destroyed = vastai("destroy", "instance", name, "-y")
    assert "destroying instance" in destroyed.stdout, destroyed.stdout
    emulator.settle()
    assert parsed(vastai("show", "instances", "--raw")) == []


@pytest.mark.slow
@pytest.mark.skipif(not CLI.exists(), reason="the official command line client is not installed")
def test_bulk_destroy_and_a_wrong_key_end_with_exit_0_all_the_same(emulator: Emulator, vastai: Vastai) -> None:
    """The client's exit code says nothing: this is why nobody may read it as evidence."""
    ids = [str(emulator.world.create(ask, create_request()).id) for ask in (7_100_004, 7_100_005)]
    assert vastai("destroy", "instances", *ids, "-y").returncode == 0
    assert not emulator.world.rentals()
    refused = vastai("show", "instances", "--api-key", "wrong")
    assert refused.returncode == 0
    assert "Invalid user key" in refused.stdout + refused.stderr


def test_the_sdk(emulator: Emulator, tmp_path: Path) -> None:
    from vastai import VastAI

    sdk = VastAI(api_key=emulator.key, server_url=emulator.url, retry=1)
    user = sdk.show_user()
    assert (user["id"], user["credit"] > 0) == (emulator.world.scenario.account.user_id, True)
    offer = sdk.search_offers(query="gpu_name=H100_NVL", order="dph_total")[0]
    made = sdk.create_instance(id=offer["id"], image="pytorch", disk=20, label="sdk", ssh=True, direct=True)
    instance_id = made["new_contract"]
    emulator.settle()
    key = key_pair(tmp_path)
    assert sdk.attach_ssh(instance_id=instance_id, ssh_key=key.with_suffix(".pub").read_text())["success"]
    emulator.settle()
    row = sdk.show_instance(id=instance_id)
    assert (row["actual_status"], row["label"], row["gpu_name"]) == ("running", "sdk", "H100 NVL")
    assert [found["id"] for found in sdk.show_instances()] == [instance_id]
    assert re.fullmatch(r"ssh://root@127\.0\.0\.1:\d+", sdk.ssh_url(id=instance_id).strip())
    assert "BEGIN SSH HOST KEY KEYS" in sdk.logs(instance_id)
    assert sdk.label_instance(id=instance_id, label="other")["success"]
    assert sdk.stop_instance(id=instance_id)["success"]
    emulator.settle()
    assert sdk.show_instance(id=instance_id)["actual_status"] == "stopped"
    assert "workspace" in sdk.execute(instance_id, "ls /")
    assert sdk.start_instance(id=instance_id)["success"]
    assert sdk.reboot_instance(id=instance_id)["success"]
    emulator.settle()
    assert sdk.destroy_instance(id=instance_id)["success"]
    assert sdk.show_instance(id=instance_id) is None
    with pytest.raises(requests.HTTPError) as second:
        sdk.destroy_instance(id=instance_id)
    assert second.value.response is not None
    assert second.value.response.json()["error"] == "no_such_instance"


def test_the_sdks_retry_hides_that_an_instance_was_rented(tmp_path: Path) -> None:
    """The first reply to a create is lost, the retry says that the offer is gone: the instance bills unseen."""
    from vastai import VastAI

    lost = {"route": "PUT /api/v0/asks/{id}", "do": "drop", "commit": True}
    with running(tmp_path / "state", scenario=scenario(api=[lost], isolation="none")) as emulator:
        careless = VastAI(api_key=emulator.key, server_url=emulator.url, retry=3)
        with pytest.raises(requests.HTTPError):
            careless.create_instance(id=7_100_001, image="pytorch", disk=20)
        assert len(emulator.world.rentals()) == 1


def test_the_sdks_old_listing_is_answered_with_410(emulator: Emulator) -> None:
    headers = {"Authorization": f"Bearer {emulator.key}"}
    answer = requests.get(emulator.url + "/api/v0/instances/", headers=headers, timeout=10)
    assert (answer.status_code, answer.json()["error"]) == (410, "deprecated_endpoint")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("rsync") or not CLI.exists(), reason="no rsync or no client on this machine")
def test_without_a_key_the_clients_copy_reports_success_and_brings_nothing(
    emulator: Emulator, vastai: Vastai, tmp_path: Path
) -> None:
    rental = emulator.world.create(7_100_009, create_request())
    emulator.settle()
    done = vastai("copy", f"{rental.id}:/workspace/", f"local:{tmp_path}/home")
    assert done.returncode == 0, done.stderr
    assert not any((tmp_path / "home").iterdir())
    emulator.world.destroy(rental.id)
