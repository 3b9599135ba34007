"""What the emulator's tests share: a fast scenario, a key pair, a rented box, stock OpenSSH against it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from harness.emulator.rental import Status
from harness.emulator.request import InstanceRequest
from harness.emulator.running import Emulator, running
from harness.emulator.scenario import Scenario

FAST = {"created_s": 0.0, "loading_s": 0.0, "running_s": 0.0, "ssh_s": 0.0, "key_s": 0.0, "reboot_s": 0.0, "log_s": 0.0}
OFFER = 7_100_001
"""The first offer of the default market: 8x H100 SXM."""


def scenario(**more: Any) -> Scenario:
    """A scenario in which nothing takes any time."""
    pace = {**FAST, **more.pop("pace", {})}
    return Scenario.model_validate({"name": "test", "pace": pace, **more})


def create_request(**more: Any) -> InstanceRequest:
    """What a create asks for, unless said otherwise; of what the API would refuse, too (a tiny disk)."""
    usual = InstanceRequest(image="pytorch/pytorch", disk=20.0, label="test", runtype="ssh_direc ssh_proxy")
    return usual.model_copy(update=more)


def key_pair(folder: Path, name: str = "key") -> Path:
    """A fresh Ed25519 key pair; the path of the private half."""
    path = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def ask(emulator: Emulator, method: str, path: str, key: str | None = "", **more: Any) -> requests.Response:
    """One request with the account's key, another one, or none (None)."""
    headers = {} if key is None else {"Authorization": f"Bearer {key or emulator.key}"}
    return requests.request(method, emulator.url + path, headers=headers, timeout=20, **more)


@dataclass(frozen=True, slots=True)
class Box:
    """A rented box that runs, and the key that opens it."""

    emulator: Emulator
    id: int
    key: Path

    def options(self) -> list[str]:
        """Options that stock OpenSSH tools share."""
        given = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes", "LogLevel=ERROR")
        return ["-F", "none", "-i", str(self.key), *(word for option in given for word in ("-o", option))]

    def port(self) -> str:
        """Where it answers directly."""
        return str(self.emulator.world.rental(self.id).ssh_port)

    def ssh(self, command: str, *, stdin: bytes = b"", terminal: bool = False) -> subprocess.CompletedProcess[bytes]:
        """Run one command with stock ssh."""
        words = ["ssh", *(["-tt"] if terminal else []), "-p", self.port(), *self.options(), "root@127.0.0.1", command]
        return subprocess.run(words, input=stdin, capture_output=True, timeout=60, check=False)

    def copy(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """Run stock scp."""
        line = ["scp", "-P", self.port(), *self.options(), *words]
        return subprocess.run(line, capture_output=True, timeout=60, check=False)

    @property
    def root(self) -> Path:
        """The box's root directory on this machine."""
        return self.emulator.world.state_dir / "boxes" / str(self.id) / "root"


def rent(emulator: Emulator, key: Path, offer: int = OFFER, **more: Any) -> Box:
    """Rent a box, let a key in, wait until both are true."""
    with emulator.world.lock:  # the box boots when its key is known
        rental = emulator.world.create(offer, create_request(**more))
        emulator.world.attach_key(rental.id, key.with_suffix(".pub").read_text())
    emulator.settle()
    assert emulator.world.rental(rental.id).status is Status.RUNNING
    return Box(emulator, rental.id, key)


@contextmanager
def rented(folder: Path, *, create: dict[str, Any] | None = None, **more: Any) -> Iterator[Box]:
    """An emulator of its own with one box."""
    with running(folder / "state", scenario=scenario(**more)) as emulator:
        yield rent(emulator, key_pair(folder), **(create or {}))
