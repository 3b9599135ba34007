"""``harness monitor``, ``logs`` and ``ssh`` at a real SSH server: what they show, and what a cut does."""

from __future__ import annotations

import getpass
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from benchmarks.local_sshd import SSHD, LocalSshd
from harness import wiring
from harness.cli import logs, main, monitor
from harness.core import process
from harness.core.clock import SystemClock
from harness.core.errors import BadInput, HostUnreachable
from harness.core.ids import InstanceId, JobName
from harness.core.ports import Clock, Endpoint, Provider
from harness.job.provider import ProviderTable
from harness.ledger.events import Abandoned, InstanceStopped, Launched, Pinned, Rented, RentIntended
from harness.ledger.kinds import JobEvent
from harness.ledger.sql import open_store
from harness.remote.ssh import openssh
from harness.remote.ssh.keys import generate_keypair, public_key
from tests.support.fake_clock import FakeClock
from tests.support.job_histories import LABEL, Log, events_of, job
from tests.support.scripted_world import Market

pytestmark = pytest.mark.skipif(SSHD is None, reason="sshd is not installed")
NUMBER = InstanceId(4711)
OFFER: dict[str, Any] = {"num_gpus": 8, "gpu_name": "H100 SXM", "usd_per_hour": 15.95, "machine_id": 12}
PLAN = (
    "PLAN sft_steps=330 dpo_steps=80 batch_size=32 checkpoint_every=100 lora_r=64 lora_alpha=128 "
    "dtype=bfloat16 world_size=1 device_map=auto devices=cuda:0\n"
)
STEP = "[sft] step {0}/330 (1%) loss=1.5 lr=0.0001 s/step=4.0\n"
HOSTILE = b"\x1b[2J\x1b]0;owned\x07\x1b[31mred\x1b[0m\x00\xff \xe2\x80\xaedlrow\n10%\r20%\rdone\n"


@dataclass(slots=True)
class Scene:
    """A home with one job whose instance is a real SSH server, and somebody who types."""

    box: LocalSshd
    home: Path
    number: InstanceId = NUMBER
    said: str = ""
    aside: str = ""
    type: Callable[..., int] = field(default=lambda *_: 0)

    @property
    def log(self) -> Path:
        return self.box.home / "package" / "training.log"

    def write(self, data: bytes) -> None:
        self.log.parent.mkdir(exist_ok=True)
        with self.log.open("ab") as file:
            file.write(data)

    def record(self, *happened: JobEvent) -> None:
        store = open_store(self.home / "state.db", SystemClock())
        for event in happened:
            store.append(JobName("night"), event)

    def files(self) -> dict[Path, bytes]:
        """All that the harness keeps, and all that lies on the box."""
        every = (*self.home.rglob("*"), *self.box.home.rglob("*"))
        return {path: path.read_bytes() for path in sorted(every) if path.is_file()}


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Scene]:
    box, market = LocalSshd(tmp_path / "box"), Market(FakeClock())
    made = Scene(box, tmp_path / "home")
    (made.home / "ssh").mkdir(parents=True)
    shutil.copy(box.client_key, made.home / "ssh" / "id_ed25519")
    market.add(made.number, LABEL)
    market.change(made.number, endpoints=(Endpoint("127.0.0.1", 1), Endpoint("127.0.0.1", box.port)))

    def provider(_table: ProviderTable, _home: Path, _clock: Clock) -> Provider:
        return market

    monkeypatch.setenv("HARNESS_HOME", str(made.home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(wiring, "open_provider", provider)
    monkeypatch.setattr(wiring, "_GLANCE_S", 0.5)
    monkeypatch.setattr(Market, "attach_key", lambda *_: pytest.fail("a key was attached"))
    log = Log(job(package={"remote_dir": "package"}, machine={"ssh_user": getpass.getuser()}))
    made.record(*events_of(log.records), RentIntended(LABEL, OFFER, 7), Rented(made.number, LABEL, OFFER, 15.95, 7))

    def typed(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["harness", *words])
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        with pytest.raises(SystemExit) as ended:
            main.main()
        made.said, made.aside = capfd.readouterr()
        assert "Traceback" not in made.said + made.aside
        return int(ended.value.code or 0)

    made.type = typed
    yield made
    box.stop()


@pytest.fixture
def ready(scene: Scene) -> Scene:
    """The box runs, its key is pinned, its training has begun."""
    scene.box.start()
    scene.write(PLAN.encode() + STEP.format(1).encode())
    scene.record(Pinned((public_key(scene.box.host_key),), "shown"), Launched(("python3",), "launch"))
    return scene


def test_one_picture_of_a_box(ready: Scene) -> None:
    before = ready.files()
    assert ready.type("monitor", "night", "--once") == 0
    for words in ("step 1/410", "1.5 (sft)", "disk ", "instance 4711 bills $15.95/h", "[sft] step 1/330"):
        assert words in ready.said, words
    assert ready.files() == before


def test_a_picture_of_a_box_that_does_not_answer_says_so_and_fails(ready: Scene) -> None:
    ready.box.kill()
    assert ready.type("monitor", "night", "--once") == HostUnreachable.exit_code
    assert "instance 4711 bills $15.95/h" in ready.said
    assert "cut      127.0.0.1:" in ready.said


def test_a_box_that_is_not_ready_is_not_asked_and_no_key_of_it_is_believed(scene: Scene) -> None:
    scene.box.start()
    assert scene.type("monitor", "night", "--once") == 0
    assert "instance 4711 bills $15.95/h" in scene.said
    assert scene.type("logs", "night") == HostUnreachable.exit_code
    assert "not ready yet" in scene.aside
    assert scene.type("ssh", "night", "--", "true") == HostUnreachable.exit_code
    assert "no host key of the box is pinned yet" in scene.aside
    assert not [*(scene.home / "jobs").rglob("host-key*")]


def test_following_in_a_pipe_ends_with_what_bills(ready: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    wait, looks = monitor._Following.wait, 0

    def interrupted(self: Any, seconds: float) -> None:
        nonlocal looks
        while self.number <= looks:
            wait(self, seconds)
        looks = self.number
        ready.write(STEP.format(1 + looks).encode())
        if looks == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(monitor._Following, "wait", interrupted)
    assert ready.type("monitor", "night", "--every", "1") == 0
    *lines, farewell = ready.said.splitlines()
    assert [line.split("step ")[1].split(",")[0] for line in lines] == ["1/410", "2/410"]
    assert farewell.startswith("Instance 4711 bills $15.95/h. harness run night goes on")


def test_following_a_closed_job_ends_by_itself(scene: Scene) -> None:
    closed = events_of(Log(job(package={"remote_dir": "package"})).closed().records)
    scene.record(*closed[1:])
    assert scene.type("monitor", "night") == 0
    assert scene.said.splitlines()[-1] == "job night is closed"


def test_the_log_is_shown_cleaned_and_the_box_is_named(ready: Scene) -> None:
    ready.write(HOSTILE)
    before = ready.files()
    assert ready.type("logs", "night", "-n", "2") == 0
    assert ready.said == "red��  �dlrow\ndone\n".replace("  ", " ")
    assert "training.log of instance 4711" in ready.aside
    assert ready.files() == before


def _scripted(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object]) -> None:
    """Things that happen while the follower pauses, one a pause; then Ctrl-C."""
    left = [*steps]

    def sleep(_self: SystemClock, seconds: float) -> None:
        if seconds < logs._EVERY_S:  # the connection's own pauses
            return
        if not left:
            raise KeyboardInterrupt
        left.pop(0)()

    monkeypatch.setattr(SystemClock, "sleep", sleep)


def test_following_survives_a_cut_and_repeats_nothing(ready: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut() -> None:
        ready.write(b"written before the cut\n")
        ready.box.kill()

    def back() -> None:
        ready.write(b"written meanwhile\n")
        ready.box.start()

    _scripted(monkeypatch, lambda: ready.write(b"more\nhalf"), lambda: ready.write(b" done\n"), cut, back, lambda: None)
    assert ready.type("logs", "night", "-f", "-n", "1") == 0
    assert ready.said.splitlines() == [
        STEP.format(1).strip(),
        "more",
        "half done",
        "written before the cut",
        "written meanwhile",
    ]
    assert ready.aside.count("trying again") == 1
    assert ready.aside.count("the box answers again") == 1


def test_following_ends_when_the_instance_is_gone(ready: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        ready.box.kill()
        ready.record(Abandoned(ready.number, {}, {}))

    _scripted(monkeypatch, gone)
    assert ready.type("logs", "night", "-f") == 0
    assert "no instance of this job is alive" in ready.aside


def test_without_a_box_the_copy_at_home_is_shown_and_named(ready: Scene) -> None:
    ready.record(InstanceStopped(ready.number, "the budget"))
    assert ready.type("logs", "night") == HostUnreachable.exit_code
    assert "instance 4711 is stopped" in ready.aside
    copy = ready.home / "jobs" / "night" / "companions" / "training.log"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"first\n" + HOSTILE)
    assert ready.type("logs", "night", "-n", "1") == 0
    assert ready.said == "done\n"
    assert str(copy) in ready.aside.replace("\n", "")


def test_a_shell_command_runs_on_the_box_and_ends_with_its_code(ready: Scene) -> None:
    before = ready.files()
    assert ready.type("ssh", "night", "--", "cat package/training.log; exit 7") == 7
    assert ready.said == PLAN + STEP.format(1)
    hosts = ready.home / "jobs" / "night" / "known_hosts"
    assert hosts.read_text() == f"harness-instance-4711 {public_key(ready.box.host_key)}\n"
    assert {path: data for path, data in ready.files().items() if path != hosts} == before


def test_the_command_line_is_printed_and_nothing_is_run(ready: Scene) -> None:
    assert ready.type("ssh", "night", "--print") == 0
    assert f"-p {ready.box.port} " in ready.said
    assert "StrictHostKeyChecking=yes" in ready.said


def test_another_host_key_is_refused_by_all_of_them(ready: Scene) -> None:
    ready.box.kill()
    ready.box.host_key.unlink()
    generate_keypair(ready.box.host_key)
    ready.box.start()
    for words in (("ssh", "night", "--", "echo", "let-in"), ("logs", "night"), ("monitor", "night", "--once")):
        assert ready.type(*words) == HostUnreachable.exit_code
        assert "shows the host key" in ready.said + ready.aside
        assert "let-in" not in ready.said


def test_the_client_itself_refuses_another_host_key(ready: Scene, tmp_path: Path) -> None:
    other = generate_keypair(tmp_path / "other").rsplit(" ", 1)[0]
    hosts = tmp_path / "known_hosts"
    hosts.write_text(openssh.known_hosts("box", (other,)))
    line = openssh.command(
        "ssh",
        Endpoint("127.0.0.1", ready.box.port),
        user=getpass.getuser(),
        key=ready.box.client_key,
        hosts=hosts,
        alias="box",
        words=("echo", "in"),
    )
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (255, "")


def test_without_a_client_or_a_box_it_is_said_what_to_do(ready: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert ready.type("ssh", "night") == 2
    assert "no ssh client" in ready.aside
    monkeypatch.undo()


def test_a_stopped_instance_has_no_shell(ready: Scene) -> None:
    ready.record(InstanceStopped(ready.number, "the budget"))
    assert ready.type("ssh", "night") == HostUnreachable.exit_code
    said = " ".join(ready.aside.split())
    assert "only its disk bills" in said
    assert "harness status night" in said


def test_the_documented_json_is_what_is_printed(ready: Scene) -> None:
    assert ready.type("status", "night", "--json") == 0
    (row,) = json.loads(ready.said)
    assert (row["bills"]["state"], row["bills"]["usd_per_hour"]) == ("running", 15.95)


@pytest.mark.slow
def test_lessons_are_tried_on_the_box_and_leave_nothing_there(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.box.start()
    scene.record(Pinned((public_key(scene.box.host_key),), "shown"))
    monkeypatch.setattr(process, "PYTHON", sys.executable)  # the box's own would have the libraries
    before = scene.files()
    assert scene.type("lessons", "merged-then-trained", "--job", "night") == 0, scene.aside
    assert "the box of night" in scene.said
    assert "**still broken**: RuntimeError: element 0 of tensors does not require grad" in scene.said
    assert scene.files() == before


def test_lessons_share_no_gpus_with_a_training(ready: Scene) -> None:
    assert ready.type("lessons", "--job", "night") == BadInput.exit_code
    assert "night trains, or has trained" in ready.aside
