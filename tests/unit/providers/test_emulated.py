"""The embedded service as a process of its own: real processes, real kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.core import in_use
from harness.core.clock import SystemClock
from harness.core.errors import BadInput, HarnessError, MissingExtra, ProviderUnavailable
from harness.core.ports import CreateRequest, OfferQuery
from harness.providers.detached import spawn
from harness.providers.emulated import ensure_emulator, open_emulated, stop_emulator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="the emulated boxes need Linux or macOS"),
]
CLOCK = SystemClock()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home with space"
    yield home
    for place in (home, home / "emulator"):
        for process in emulators(place, ""):  # the boxes outlive their emulator
            process.kill()


def emulators(home: Path, module: str = "harness.emulator") -> list[psutil.Process]:
    """The live processes of this home that name the module."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = " ".join(process.info["cmdline"] or [])
        if process.info["status"] != psutil.STATUS_ZOMBIE and module in command and str(home / "state") in command:
            found.append(process)
    return found


def pid_of(home: Path) -> int:
    (process,) = emulators(home)
    return int(process.pid)


ENSURE = """
import os, signal, sys
from pathlib import Path
from harness.core.clock import SystemClock
from harness.core.ports import CreateRequest, OfferQuery
from harness.providers.emulated import ensure_emulator, open_emulated
home = Path(sys.argv[1])
print(ensure_emulator(home, SystemClock()).server_url, flush=True)
if "rent" in sys.argv:
    provider = open_emulated(home, SystemClock())
    offer = provider.search(OfferQuery(("H100",), 1, 20.0, 100.0))[0]
    provider.create(offer.id, CreateRequest("pytorch/pytorch", 20.0, "gsh-demo-1"))
if "killed" in sys.argv:
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _caller(home: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    """A process that uses the emulator of a home, and ends."""
    command = [sys.executable, "-c", ENSURE, str(home), *words]
    return subprocess.run(command, stdout=subprocess.PIPE, start_new_session=True, check=False)


def _wait_for_end(home: Path) -> None:
    deadline = time.monotonic() + 60
    while emulators(home):
        assert time.monotonic() < deadline, "it stays behind"
        time.sleep(0.05)


def test_it_is_started_once_and_found_again(home: Path) -> None:
    first = ensure_emulator(home, CLOCK)
    pid = pid_of(home)
    assert ensure_emulator(home, CLOCK) == first
    assert pid_of(home) == pid
    provider = open_emulated(home, CLOCK)
    assert provider.name == "emulated"
    assert provider.account().user_id > 0
    assert (home / "emulator.log").stat().st_mode & 0o077 == 0
    assert stop_emulator(home)
    assert emulators(home) == []
    assert not stop_emulator(home)


@pytest.mark.parametrize("ends", ["killed", "well"])
def test_it_outlives_whoever_started_it_while_something_lives_in_it(home: Path, ends: str) -> None:
    empty = home.with_name("empty")
    caller = _caller(home, "rent", ends)
    assert caller.returncode == (-signal.SIGKILL if ends == "killed" else 0)
    _caller(empty, ends)
    _wait_for_end(empty)  # later in everything than the other one, which has looked by then, too
    (label,) = [one.label for one in open_emulated(home, CLOCK).instances().instances]
    assert label == "gsh-demo-1"
    assert ensure_emulator(home, CLOCK).server_url == caller.stdout.decode().strip()


@pytest.mark.parametrize("ends", ["killed", "well"])
def test_it_ends_with_the_last_process_that_uses_it_and_goes_on_with_the_next(home: Path, ends: str) -> None:
    before = _caller(home, ends).stdout
    _wait_for_end(home)
    assert before
    assert _caller(home, ends).stdout
    _wait_for_end(home)
    known = open_emulated(home, CLOCK).account()
    assert known.user_id > 0


def test_one_that_another_process_uses_stays(home: Path) -> None:
    home.mkdir()
    in_use.hold(home / "in-use")
    empty = home.with_name("empty")
    first = _caller(home).stdout
    _caller(empty)
    _wait_for_end(empty)
    assert _caller(home).stdout == first


def test_callers_at_once_start_one(home: Path) -> None:
    home.mkdir()
    in_use.hold(home / "in-use")
    command = [sys.executable, "-c", ENSURE, str(home), "killed"]
    callers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    addresses = {caller.communicate(timeout=120)[0] for caller in callers}
    assert len(addresses) == 1
    assert len(emulators(home)) == 1


def _stop(*words: str) -> str:
    """What ``harness emulator --stop`` says."""
    command = [sys.executable, "-m", "harness", "emulator", "--stop", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_what_serves_is_stopped_by_a_command(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(home))
    _caller(home / "emulator", "rent")
    command = [sys.executable, "-m", "harness", "emulator"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as by_hand:
        assert by_hand.stdout is not None
        assert by_hand.stdout.readline().startswith("listening on ")
        one, other = _stop().splitlines()
        assert by_hand.wait(60) == 0
    assert one.startswith(f"stopped the emulator of {home / 'emulator'}; the instances ")
    assert one.endswith(" stay with their processes, and go on with its next start")
    assert other == f"stopped the emulator of {home / 'emulator-by-hand'}"
    assert not emulators(home / "emulator")
    assert _stop() == f"no emulator is running in {home}\n"
    assert [one.label for one in open_emulated(home / "emulator", CLOCK).instances().instances] == ["gsh-demo-1"]
    assert "stopped the emulator of" in _stop("--state", str(home / "emulator"))


def test_a_later_process_with_the_number_of_one_that_died_is_left_alone(home: Path) -> None:
    (home / "state").mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"]) as innocent:
        (home / "state" / "pid").write_text(str(innocent.pid))
        assert not stop_emulator(home)
        assert innocent.poll() is None
        innocent.kill()


def test_one_that_died_goes_on_with_its_state(home: Path) -> None:
    provider = open_emulated(home, CLOCK)
    offer = provider.search(OfferQuery(("H100",), 1, 20.0, 100.0))[0]
    rented = provider.create(offer.id, CreateRequest("pytorch/pytorch", 20.0, "gsh-demo-1"))
    os.kill(pid_of(home), signal.SIGKILL)
    while emulators(home):
        time.sleep(0.01)
    again = open_emulated(home, CLOCK)
    assert [instance.id for instance in again.instances().instances] == [rented]
    assert stop_emulator(home)


def test_a_home_by_its_relative_path_is_the_same(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ensure_emulator(home, CLOCK)
    monkeypatch.chdir(home.parent)
    assert ensure_emulator(Path(home.name), CLOCK) == first
    assert stop_emulator(Path(home.name))


def test_another_scenario_is_not_played_by_the_one_that_runs(home: Path) -> None:
    ensure_emulator(home, CLOCK)
    with pytest.raises(BadInput, match="is running with no scenario"):
        ensure_emulator(home, CLOCK, scenario="create-reply-lost")


def test_one_that_cannot_start_says_why(home: Path) -> None:
    with pytest.raises(ProviderUnavailable, match="no-such-scenario"):
        ensure_emulator(home, CLOCK, scenario="no-such-scenario")
    assert emulators(home) == []


def test_one_whose_output_is_gone_is_named(home: Path) -> None:
    ensure_emulator(home, CLOCK)
    (home / "emulator.log").unlink()
    with pytest.raises(ProviderUnavailable, match=rf"process {pid_of(home)}\) said cannot be read"):
        ensure_emulator(home, CLOCK)
    assert stop_emulator(home)


def test_a_home_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match="cannot be used"):
        ensure_emulator(tmp_path / "file", CLOCK)


def test_stopping_what_never_was_makes_nothing(tmp_path: Path) -> None:
    assert not stop_emulator(tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_without_its_packages_the_missing_extra_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(MissingExtra, match="the embedded provider"):
        ensure_emulator(home, CLOCK)


def test_one_that_does_not_answer_is_not_handed_out(home: Path) -> None:
    url = ensure_emulator(home, CLOCK).server_url
    output = home / "emulator.log"
    output.write_text(output.read_text().replace(url, "http://127.0.0.1:1"))
    with pytest.raises(ProviderUnavailable, match=r"runs, but http://127\.0\.0\.1:1 does not answer"):
        ensure_emulator(home, CLOCK)


def test_a_program_that_is_not_there_is_not_started(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"cannot start no-such-program: FileNotFoundError"):
        spawn(["no-such-program"], cwd=tmp_path, output=tmp_path / "out")
