"""The switch as it runs on a box: a real process, real HTTP, and a service that holds keys to their rights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.core.clock import SystemClock
from harness.core.ids import InstanceId
from harness.emulator.running import Emulator, running
from harness.providers.rate_limits import UNPACED
from harness.providers.vast.keys import VastKeyIssuer
from harness.remote.probe import program
from tests.support.emulator_kit import create_request, scenario

pytest.importorskip("vastai")
pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="a box is a Linux machine")
AFTER_S = 1.0
GONE = 404
"""Status with which the service answers a key that it does not know."""


def _until(what: Callable[[], bool], told: str) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline, told
        time.sleep(0.02)


@dataclass
class Machine:
    """A home folder on this machine, in which the programs of a box run, beside a service that rents one instance."""

    home: Path
    emulator: Emulator
    keys: VastKeyIssuer
    instance: InstanceId

    @property
    def place(self) -> Path:
        return self.home / "job" / ".harness" / "switch"

    def act(self, verb: str, **args: Any) -> Any:
        """What the program of the box answers; it has ended when this returns."""
        text = program.program(program.SWITCH, {"marker": "!", "verb": verb, "args": {"directory": "job", **args}})
        ran = subprocess.run(
            [sys.executable, "-I", "-S", "-"],
            input=text.encode(),
            capture_output=True,
            timeout=120,
            check=True,
            env={"HOME": str(self.home), "PATH": os.environ["PATH"], "MARK": str(self.home)},
        )
        return json.loads(ran.stdout.rpartition(b"!")[2])["value"]

    def arm(self, key_id: int, key: str | None = None, **more: Any) -> Any:
        brought = {} if key is None else {"trial": asdict(self.keys.trial), "key": key}
        stop = asdict(self.keys.stop_request(self.instance))
        return self.act("arm", **{"key_id": key_id, "after_s": AFTER_S, "stop": stop, **brought, **more})

    def watching(self) -> list[int]:
        """Processes that the box's programs have left."""
        mark = f"MARK={self.home}".encode()
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (place / "environ").read_bytes().split(b"\0"):
                    found.append(int(place.name))
            except OSError:
                continue
        return found

    def train(self) -> subprocess.Popen[bytes]:
        """A training that lives until it is ended."""
        process = subprocess.Popen(["sleep", "600"], start_new_session=True)
        started = int(Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
        self.place.parent.mkdir(parents=True, exist_ok=True)
        (self.place.parent / "launch.json").write_text(json.dumps({"pid": process.pid, "started": started}))
        return process

    def state(self) -> str:
        return self.emulator.world.rental(int(str(self.instance))).intended.value


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with running(tmp_path / "state", scenario=scenario(isolation="none")) as emulator:
        rental = emulator.world.create(7_100_001, create_request())
        keys = VastKeyIssuer(emulator.url, {"VAST_API_KEY": emulator.key}, tmp_path, SystemClock(), UNPACED)
        (tmp_path / "box").mkdir()
        made = Machine(tmp_path / "box", emulator, keys, InstanceId(rental.id))
        yield made
        made.act("disarm")
        _until(lambda: not made.watching(), "a process was left behind")


def test_it_stops_its_instance_once_the_training_has_ended(machine: Machine) -> None:
    key = machine.keys.issue_stop_key(machine.emulator.key, machine.instance, "gsh-switch-x")
    training = machine.train()
    try:
        assert machine.arm(key.id, key.secret) == {"armed": True, "came": None, "said": None}
        (pid,) = machine.watching()
        assert os.getsid(pid) == pid, "it is no part of the connection's session"
        kept = machine.place / "armed.json"
        assert (kept.stat().st_mode & 0o777, machine.place.stat().st_mode & 0o777) == (0o600, 0o700)
        for name in ("cmdline", "environ"):
            assert key.secret.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
        assert Path(f"/proc/{pid}/cwd").readlink() == Path("/"), "it is no work in the job's directory"
        assert machine.arm(key.id)["armed"], "the key is here"
        assert machine.watching() == [pid], "one watches"
        assert not machine.arm(key.id + 1)["armed"], "another key is not"
        assert machine.state() == "running"
    finally:
        training.kill()
        training.wait()
    _until(lambda: machine.state() == "stopped", "it was not stopped")
    said = machine.place / "said.json"
    _until(lambda: said.exists() and json.loads(said.read_text())["came"] == 200, "it does not say so")
    assert key.secret not in said.read_text()
    assert machine.arm(key.id)["said"]["came"] == 200


def test_a_key_that_is_refused_goes_on_being_tried_and_that_is_said(machine: Machine) -> None:
    key = machine.keys.issue_stop_key(machine.emulator.key, machine.instance, "gsh-switch-x")
    training = machine.train()
    try:
        machine.arm(key.id, key.secret)
        machine.keys.revoke(machine.emulator.key, key.id)
    finally:
        training.kill()
        training.wait()
    said = machine.place / "said.json"
    _until(lambda: said.exists() and json.loads(said.read_text())["came"] == GONE, "it does not say so")
    assert machine.watching()
    assert machine.state() == "running"


@pytest.mark.parametrize(
    ("url", "came"),
    [(None, 404), ("http://127.0.0.1:9/", "URLError"), ("/api/v0/gpu_types", 501)],
    ids=["the key may do more", "the box reaches nothing", "something else answers"],
)
def test_nothing_is_kept_of_a_key_whose_trial_is_not_refused(machine: Machine, url: str | None, came: Any) -> None:
    trial = asdict(machine.keys.trial)
    if url is not None:
        trial["url"] = url if url.startswith("http") else machine.emulator.url + url
    answer = machine.arm(7, machine.emulator.key, trial=trial)
    assert not answer["armed"]
    assert answer["came"] == came or str(answer["came"]).startswith(str(came))
    assert not list(machine.place.glob("*.json"))
    assert not machine.watching()


def test_another_key_takes_the_place_of_the_first_and_one_process_watches(machine: Machine) -> None:
    training = machine.train()
    try:
        for number in range(2):
            key = machine.keys.issue_stop_key(machine.emulator.key, machine.instance, f"gsh-switch-{number}")
            assert machine.arm(key.id, key.secret)["armed"]
        assert len(machine.watching()) == 1
        assert key.secret in (machine.place / "armed.json").read_text()
    finally:
        training.kill()
        training.wait()
    _until(lambda: machine.state() == "stopped", "it was not stopped")


def test_a_process_that_died_is_made_good_for(machine: Machine) -> None:
    training = machine.train()
    try:
        key = machine.keys.issue_stop_key(machine.emulator.key, machine.instance, "gsh-switch-x")
        machine.arm(key.id, key.secret)
        (pid,) = machine.watching()
        os.kill(pid, 9)
        _until(lambda: pid not in machine.watching(), "it lives on")
        assert machine.arm(key.id)["armed"]
        (another,) = machine.watching()
        assert another != pid
    finally:
        training.kill()
        training.wait()
    _until(lambda: machine.state() == "stopped", "it was not stopped")
