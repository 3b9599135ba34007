"""Services of a box beside its shell: forwarded ports, the client's copy, GPUs that show work, its image's name."""

from __future__ import annotations

import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.core.clock import SystemClock
from harness.core.lifecycle import Stage
from harness.core.ports import Endpoint
from harness.core.questions import GpuList
from harness.core.verdict import Verdict
from harness.emulator.box.image import stands_for
from harness.emulator.box.nvidia_smi import runs_a_program
from harness.emulator.freeport import free_port
from harness.remote.host import SshHost
from harness.remote.ssh.connection import Login
from tests.support.emulator_kit import Box, rented
from tests.support.facts import changed, judge, training
from tests.support.official_client import official_client

WAIT_S = 30.0


def soon(found: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not found():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


@pytest.fixture(params=["auto", "none"])
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Box]:
    with rented(tmp_path, isolation=request.param) as found:
        yield found


@contextmanager
def greeting() -> Iterator[int]:
    class Greeter(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"hello")

    with socketserver.TCPServer(("127.0.0.1", 0), Greeter) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@contextmanager
def forwarding(box: Box, *words: str) -> Iterator[None]:
    line = ["ssh", "-N", "-o", "ExitOnForwardFailure=yes", "-p", box.port(), *box.options(), *words, "root@127.0.0.1"]
    with subprocess.Popen(line) as ssh:
        try:
            yield
        finally:
            ssh.kill()


def says_hello(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            return connection.recv(5) == b"hello"
    except OSError:
        return False


@pytest.mark.parametrize("option", ["-L", "-R"])
def test_ports_are_forwarded_both_ways(tmp_path: Path, option: str) -> None:
    here = free_port()
    with (
        rented(tmp_path, isolation="none") as box,
        greeting() as port,
        forwarding(box, option, f"{here}:127.0.0.1:{port}"),
    ):
        soon(lambda: says_hello(here))


def test_nothing_listens_beyond_this_machine(tmp_path: Path) -> None:
    line = ["-N", "-o", "ExitOnForwardFailure=yes", "-R", f"0.0.0.0:{free_port()}:127.0.0.1:1", "root@127.0.0.1"]
    with rented(tmp_path, isolation="none") as box:
        words = ["ssh", "-p", box.port(), *box.options(), *line]
        done = subprocess.run(words, capture_output=True, timeout=60, check=False)
    assert done.returncode == 255
    assert b"remote port forwarding failed" in done.stderr


def test_the_official_copy_goes_both_ways_with_a_key(box: Box, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "train.py").write_text("print('hello')\n")
    box.ssh("mkdir -p workspace/out; echo model > workspace/out/model.gguf")
    url, key = box.emulator.url, box.emulator.key
    with official_client(url, tmp_path) as client:
        client(url, key, "copy", f"local:{tmp_path}/package", f"C.{box.id}:/workspace/", "-i", str(box.key))
        client(url, key, "copy", f"{box.id}:/workspace/out/", f"local:{tmp_path}/home", "-i", str(box.key))
    assert box.ssh("cat workspace/package/train.py").stdout == b"print('hello')\n"
    assert (tmp_path / "home" / "model.gguf").read_text() == "model\n"


@pytest.mark.parametrize("asked", ["id", "rsync --server --sender -logDtprze.iLsfxCIvu . /etc/", ""])
def test_the_copying_user_may_do_nothing_else(tmp_path: Path, asked: str) -> None:
    with rented(tmp_path, isolation="none") as box:
        words = ["ssh", "-p", box.port(), *box.options(), "vastai_kaalia@127.0.0.1", *([asked] if asked else [])]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    assert done.returncode == 255
    assert b"may only copy with rsync" in done.stderr


def gpus(box: Box) -> tuple[int, int]:
    query = "nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv,noheader,nounits"
    busy, used = box.ssh(query).stdout.decode().splitlines()[0].split(", ")
    return int(busy), int(used)


def test_gpus_show_load_and_memory_while_a_program_runs(box: Box) -> None:
    assert gpus(box) == (0, 5)
    program = (
        "import os\nopen('workspace/pid', 'w').write(str(os.getpid()))\nheld = bytearray(200 << 20)\nwhile True: pass"
    )
    box.ssh("cat > workspace/train.py", stdin=program.encode())
    box.ssh("nohup setsid python3 -u workspace/train.py >/dev/null 2>&1 </dev/null &")
    soon(lambda: gpus(box)[0] > 0 and gpus(box)[1] > 5)
    assert box.ssh("nvidia-smi").stdout.decode().count(" 5MiB") == 0
    box.ssh("kill -STOP $(cat workspace/pid)")
    soon(lambda: gpus(box)[0] == 0)
    assert gpus(box)[1] > 5
    box.ssh("kill -KILL $(cat workspace/pid)")
    soon(lambda: gpus(box) == (0, 5))


def test_the_gate_tells_idle_from_working_by_what_the_box_shows(tmp_path: Path) -> None:
    host_key = "state/boxes/{}/etc_ssh/ssh_host_ed25519_key.pub"
    with rented(tmp_path) as box:
        pinned = (tmp_path / host_key.format(box.id)).read_text().strip()
        login = Login("root", (Endpoint("127.0.0.1", int(box.port())),), box.key, host_keys=(pinned,))
        host = SshHost(login, SystemClock(), patience=5.0)

        def verdict() -> Verdict:
            shown = host.probe([asked := GpuList()])[asked].get()
            return judge(Stage.TRAINING, changed(training(), {"gpus": shown}))["gpus_are_working"].verdict

        try:
            assert verdict() is Verdict.FAIL
            box.ssh("echo 'while True: pass' > workspace/train.py")
            box.ssh("nohup setsid python3 -u workspace/train.py >/dev/null 2>&1 </dev/null &")
            soon(lambda: verdict() is Verdict.PASS)
        finally:
            host.close()


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("python3 train.py --stage all", True),
        ("/venv/main/bin/python -u -X dev train.py", True),
        ("python3.12 -m accelerate.commands.launch train.py", True),
        ("python3 -m pip install torch", False),
        ("python3 /venv/main/bin/pip install torch", False),
        ("python3 -c pass", False),
        ("python3 - look", False),
        ("python3", False),
        ("python3 /emulated/bin/nvidia-smi -l", False),
        ("bash train.sh", False),
    ],
)
def test_a_program_is_told_from_a_look(line: str, counts: bool) -> None:
    assert runs_a_program([*line.split(" "), ""]) is counts


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("pytorch/pytorch:2.1.0-cuda12.1-cudnn8-devel", "would have brought torch 2.1.0 for CUDA 12.1"),
        ("docker.io/pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime", "would have brought torch 2.6.0 for CUDA 12.4"),
        ("vastai/pytorch:2.5.1-cuda-12.4.1", "would have brought torch 2.5.1 for CUDA 12.4.1"),
        ("pytorch/pytorch", "does not say"),
        ("nvidia/cuda:12.4.1-devel-ubuntu22.04", "does not say"),
    ],
)
def test_the_image_is_named_with_what_its_tag_tells(image: str, said: str) -> None:
    assert said in stands_for(image)


def test_the_container_log_says_what_the_box_stands_for(tmp_path: Path) -> None:
    with rented(tmp_path, isolation="none", create={"image": "pytorch/pytorch:2.1.0-cuda12.1-cudnn8-devel"}) as box:
        log = (box.root.parent / "container.log").read_text()
    assert "emulated: pytorch/pytorch:2.1.0-cuda12.1-cudnn8-devel is not pulled" in log
    assert "this machine's Python 3." in log
