"""The emulator as a program and as a context: one a directory, killed and started again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from harness.core.errors import BadInput
from harness.emulator.clock import TurnableClock
from harness.emulator.freeport import free_port
from harness.emulator.running import running
from harness.emulator.scenario import Scenario
from harness.emulator.world import World
from tests.support.emulator_kit import OFFER, key_pair, scenario


def test_one_emulator_a_directory(tmp_path: Path) -> None:
    refused = pytest.raises(BadInput, match="another emulator")
    with running(tmp_path / "s", scenario=scenario()), refused, running(tmp_path / "s"):
        pass
    with running(tmp_path / "s", scenario=scenario()):
        pass


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    with running(tmp_path / "one", scenario=scenario()) as first:
        port = int(first.url.rpartition(":")[2])
        with pytest.raises(BadInput, match="cannot be used"), running(tmp_path / "s", port=port):
            pass


def start(state: Path, *more: str) -> tuple[subprocess.Popen[str], str, str]:
    line = [sys.executable, "-m", "harness.emulator", "--state", str(state), *more]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    url = process.stdout.readline().removeprefix("listening on ").strip()
    return process, url, process.stdout.readline().removeprefix("key: ").strip()


def end(process: subprocess.Popen[str], number: signal.Signals) -> str:
    process.send_signal(number)
    try:
        said, _ = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    return said


def test_killed_and_started_again_it_goes_on_with_the_same_box(tmp_path: Path) -> None:
    key = key_pair(tmp_path)
    port = str(free_port())
    process, url, api_key = start(tmp_path / "state", "--port", port)
    headers = {"Authorization": f"Bearer {api_key}"}
    body: dict[str, Any] = {"image": "x", "disk": 20, "onstart": "echo started >> $HOME/workspace/starts"}
    made = requests.put(f"{url}/api/v0/asks/{OFFER}/", json=body, headers=headers, timeout=60).json()["new_contract"]
    public = {"ssh_key": key.with_suffix(".pub").read_text()}
    requests.post(f"{url}/api/v0/instances/{made}/ssh/", json=public, headers=headers, timeout=60).raise_for_status()
    first = wait_for_login(url, headers, made, key)
    beat = "while :; do date +%s%N > workspace/new && mv workspace/new workspace/beat; sleep 0.1; done"
    assert run(first, key, f"nohup setsid sh -c '{beat}' >/dev/null 2>&1 </dev/null & echo ok") == "ok\n"
    end(process, signal.SIGKILL)

    process, url, again = start(tmp_path / "state", "--port", port)
    try:
        assert again == api_key
        assert wait_for_login(url, headers, made, key) == first
        beats = run(first, key, "cat workspace/beat; sleep 0.5; cat workspace/beat").split()
        assert beats[0] != beats[1], "the box's process died with the emulator"
        assert run(first, key, "cat workspace/starts") == "started\n"
        requests.delete(f"{url}/api/v0/instances/{made}/", json={}, headers=headers, timeout=60).raise_for_status()
    finally:
        end(process, signal.SIGTERM)
    assert process.returncode == 0
    assert not any((tmp_path / "state/boxes").iterdir()), "destroyed, then stopped at once: nothing is left behind"


_SIGNALLED_AT_EACH_LINE = """
import signal, sys
from pathlib import Path
from harness.emulator.main import serve

class Output:
    def write(self, text):
        if text.startswith("key: "):
            sys.settrace(at_each_line)
    def flush(self):
        pass

left = 50

def at_each_line(frame, event, argument):
    global left
    if event == "line" and left:
        left -= 1
        signal.raise_signal(signal.SIGINT)
    return at_each_line

sys.stdout = Output()
serve(0, Path(sys.argv[1]), None)
"""


def test_a_signal_at_any_line_ends_it(tmp_path: Path) -> None:
    line = [sys.executable, "-c", _SIGNALLED_AT_EACH_LINE, str(tmp_path / "state")]
    assert subprocess.run(line, timeout=60, check=False).returncode == 0


def test_the_program_says_what_stays(tmp_path: Path) -> None:
    process, url, api_key = start(tmp_path / "state", "--scenario", "login-banner")
    headers = {"Authorization": f"Bearer {api_key}"}
    made = requests.put(
        f"{url}/api/v0/asks/{OFFER}/", json={"image": "x", "disk": 9}, headers=headers, timeout=60
    ).json()
    assert str(made["new_contract"]) in end(process, signal.SIGINT)
    with running(tmp_path / "state") as again:
        again.world.destroy(made["new_contract"])
        again.settle()
    refused = subprocess.run(
        [sys.executable, "-m", "harness.emulator", "--scenario", "nonsense"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (refused.returncode, "Traceback" in refused.stderr) == (2, False)


def wait_for_login(url: str, headers: dict[str, str], instance_id: int, key: Path) -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        row = requests.get(f"{url}/api/v0/instances/{instance_id}/", headers=headers, timeout=60).json()["instances"]
        if row.get("ports"):
            port = str(row["ports"]["22/tcp"][0]["HostPort"])
            if run(port, key, "echo in") == "in\n":
                return port
        time.sleep(0.1)
    raise AssertionError("no login")


def run(port: str, key: Path, command: str) -> str:
    options = [
        f"-o{o}"
        for o in ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes")
    ]
    line = ["ssh", "-F", "none", "-i", str(key), *options, "-p", port, "root@127.0.0.1", command]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False).stdout


def test_the_state_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    World(tmp_path, TurnableClock(), Scenario())
    mode = (tmp_path / "emulator.json").stat().st_mode
    assert mode & 0o077 == 0


def test_without_its_libraries_the_extra_is_named(tmp_path: Path) -> None:
    program = "import sys; sys.modules['asyncssh'] = None\n"
    program += "from harness.emulator.main import main; sys.exit(main(sys.argv[1:]))"
    line = [sys.executable, "-c", program, "--state", str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (11, False)
    assert "gold-standard-harness[emulator]" in done.stderr
