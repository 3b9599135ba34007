"""The box, seen through stock OpenSSH: commands, terminals, copies, isolation, life and death of its processes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.clock import SystemClock
from harness.core.ids import Sha256
from harness.core.ports import Endpoint, RemoteFile
from harness.emulator.box.container import Container, can_isolate
from harness.emulator.box.layout import Layout, operator_packages
from harness.emulator.running import NotSettled, running
from harness.remote.host import SshHost
from harness.remote.ssh.connection import Login
from tests.support.emulator_kit import Box, key_pair, rent, rented, scenario

isolated_only = pytest.mark.skipif(not can_isolate(), reason="this machine permits no user namespaces")
needs_tmux = pytest.mark.skipif(not shutil.which("tmux"), reason="no tmux on this machine")


@pytest.fixture(scope="module", params=["auto", "none"])
def box(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """One box for all looks that change nothing, in a container and without one."""
    if request.param == "auto" and not can_isolate():
        pytest.skip("this machine permits no user namespaces")
    with rented(tmp_path_factory.mktemp("box"), isolation=request.param) as found:
        yield found


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_exit_status_and_both_outputs_come_back(box: Box) -> None:
    done = box.ssh("echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_a_cut_is_felt_at_once_whatever_the_command_has_in_mind(tmp_path: Path) -> None:
    with rented(tmp_path, ssh=[{"do": "cut", "after_bytes": 1000}]) as box:
        began = time.monotonic()
        done = box.ssh("head -c 100000 /dev/zero; sleep 30")
        assert done.returncode == 255
        assert len(done.stdout) < 100_000
        assert time.monotonic() - began < 20


def test_a_command_killed_by_a_signal_is_not_a_success(box: Box) -> None:
    assert box.ssh("kill -9 $$").returncode == 255


def test_login_is_in_home_and_workspace_is_the_same_both_ways(box: Box, tmp_path: Path) -> None:
    box.ssh("mkdir -p workspace/job && echo hello > workspace/job/note")
    assert box.copy("root@127.0.0.1:/workspace/job/note", str(tmp_path / "absolute")).returncode == 0
    assert box.copy("root@127.0.0.1:workspace/job/note", str(tmp_path / "relative")).returncode == 0
    assert (tmp_path / "absolute").read_text() == (tmp_path / "relative").read_text() == "hello\n"


@isolated_only
def test_absolute_workspace_is_the_boxs_own_for_commands(tmp_path: Path) -> None:
    with rented(tmp_path) as box:
        box.ssh("echo mine > /workspace/note")
        assert (box.root / "workspace/note").read_text() == "mine\n"
        assert not Path("/workspace/note").exists()


def test_environment_holds_nothing_of_the_operator(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPERATOR_SECRET", "s3cret")
    shown = box.ssh("env").stdout
    assert b"OPERATOR_SECRET" not in shown
    assert b"CONTAINER_API_KEY" not in shown


def test_nvidia_smi_shows_the_rented_gpus_and_says_that_it_is_emulated(box: Box) -> None:
    query = "nvidia-smi --query-gpu=name,memory.total,utilization.gpu --format=csv,noheader"
    assert box.ssh(query).stdout.decode().splitlines() == ["NVIDIA H100 SXM, 81559 MiB, 0 %"] * 8
    assert b"emulated" in box.ssh("nvidia-smi").stdout
    assert box.ssh("nvidia-smi -L").stdout.count(b"H100") == 8
    with_units = box.ssh("nvidia-smi --query-gpu=index,memory.used --format=csv,nounits").stdout.splitlines()
    assert with_units[:2] == [b"index, memory.used [MiB]", b"0, 5"]
    assert box.ssh("nvidia-smi --query-gpu=nonsense --format=csv").stdout.startswith(b'Field "nonsense"')


def test_pip_is_satisfied_by_what_is_installed_here_and_changes_nothing(box: Box) -> None:
    before = sorted(Path(pytest.__file__).parents[1].iterdir())
    done = box.ssh("printf 'pytest\\nrequests>=2\\n' > workspace/r.txt; pip install -q --no-index -r workspace/r.txt")
    assert done.returncode == 0, done.stderr
    assert box.ssh("python3 -c 'import pytest, sys; print(sys.prefix != sys.base_prefix)'").stdout == b"True\n"
    assert sorted(Path(pytest.__file__).parents[1].iterdir()) == before


def test_packages_that_an_environment_borrows_are_there_behind_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    own = operator_packages()
    borrowed = Path("/usr/lib/python3/dist-packages")
    monkeypatch.setattr(sys, "path", [str(borrowed), *sys.path])
    found = operator_packages()
    assert found.index(borrowed) > 0
    assert [place for place in found if place != borrowed] == own


def test_large_output_is_whole(box: Box) -> None:
    size = 50_000_000
    done = box.ssh(
        f"head -c {size} /dev/urandom > workspace/big; sha256sum < workspace/big | cut -c1-64 >&2; cat workspace/big"
    )
    assert len(done.stdout) == size
    assert digest(done.stdout) == done.stderr.decode().strip()


def test_large_input_is_whole(box: Box) -> None:
    data = os.urandom(20_000_000)
    assert box.ssh("sha256sum | cut -c1-64", stdin=data).stdout.decode().strip() == digest(data)


def test_the_harness_brings_a_file_home(box: Box, tmp_path: Path) -> None:
    box.ssh("head -c 9000000 /dev/urandom > workspace/model.gguf")
    data = (box.root / "workspace/model.gguf").read_bytes()
    login = Login("root", (Endpoint("127.0.0.1", int(box.port())),), box.key, first_use_file=tmp_path / "host-key")
    host = SshHost(login, SystemClock(), patience=5.0)
    host.host_key()
    host.fetch(RemoteFile("workspace/model.gguf", len(data), Sha256(digest(data))), tmp_path / "model.gguf")
    host.close()
    assert (tmp_path / "model.gguf").read_bytes() == data


def test_scp_both_protocols_with_globs_and_directories(box: Box, tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "model.gguf").write_bytes(os.urandom(3_000_000))
    (package / "a b.txt").write_text("space")
    for protocol in ([], ["-O"]):
        name = "legacy" if protocol else "sftp"
        sent = box.copy(*protocol, "-r", str(package), f"root@127.0.0.1:/workspace/{name}")
        assert sent.returncode == 0, sent.stderr
        home = tmp_path / f"home-{name}"
        home.mkdir()
        fetched = box.copy(*protocol, f"root@127.0.0.1:/workspace/{name}/*.gguf", str(home))
        assert fetched.returncode == 0, fetched.stderr
        assert (home / "model.gguf").read_bytes() == (package / "model.gguf").read_bytes()


@pytest.mark.skipif(not shutil.which("rsync"), reason="no rsync on this machine")
def test_rsync(box: Box, tmp_path: Path) -> None:
    box.ssh("mkdir -p workspace/tree/deep; head -c 2000000 /dev/urandom > workspace/tree/deep/file")
    shell = " ".join(["ssh", "-p", box.port(), *box.options()])
    line = ["rsync", "-a", "-e", shell, "root@127.0.0.1:workspace/tree", str(tmp_path)]
    assert subprocess.run(line, capture_output=True, timeout=60, check=False).returncode == 0
    assert (tmp_path / "tree/deep/file").read_bytes() == (box.root / "workspace/tree/deep/file").read_bytes()


def test_sftp_batch_and_resume(box: Box, tmp_path: Path) -> None:
    data = os.urandom(1_000_000)
    (box.root / "workspace/part").write_bytes(data)
    (tmp_path / "part").write_bytes(data[:400_000])
    batch = f"pwd\nls /workspace\nreget /workspace/part {tmp_path}/part\nrename /workspace/part /workspace/whole\n"
    line = ["sftp", "-P", box.port(), *box.options(), "-b", "-", "root@127.0.0.1"]
    done = subprocess.run(line, input=batch.encode(), capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert b"/root" in done.stdout
    assert (tmp_path / "part").read_bytes() == data
    assert (box.root / "workspace/whole").exists()


def test_a_link_out_of_the_box_leads_nowhere(box: Box, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("operator's")
    link = box.root / "workspace/escape"
    link.unlink(missing_ok=True)
    link.symlink_to(tmp_path)
    assert box.copy("root@127.0.0.1:/workspace/escape/secret", str(tmp_path / "stolen")).returncode != 0
    climb = box.root / "workspace/climb"
    climb.unlink(missing_ok=True)
    climb.symlink_to("../../../../../../../../etc")
    assert box.copy("root@127.0.0.1:/workspace/climb/hostname", str(tmp_path / "stolen")).returncode != 0
    assert not (tmp_path / "stolen").exists()


def test_a_terminal_has_a_size_and_an_exit_status(box: Box) -> None:
    done = box.ssh("tty && stty size; exit 3", terminal=True)
    assert done.returncode == 3
    assert done.stdout.startswith(b"/dev/pts/")


def test_a_stranger_and_another_user_are_refused(box: Box, tmp_path: Path) -> None:
    stranger = Box(box.emulator, box.id, key_pair(tmp_path))
    assert stranger.ssh("true").returncode == 255
    other = ["ssh", "-p", box.port(), *box.options(), "-o", "BatchMode=yes", "nobody@127.0.0.1", "true"]
    assert subprocess.run(other, capture_output=True, timeout=120, check=False).returncode == 255


def test_a_client_that_leaves_does_not_hurt_a_detached_process(box: Box) -> None:
    box.ssh("nohup sh -c 'sleep 0.3; echo done > workspace/after' >/dev/null 2>&1 </dev/null &")
    wait_for((box.root / "workspace/after").exists)


@needs_tmux
def test_tmux_outlives_the_connection(box: Box) -> None:
    assert box.ssh("tmux new-session -d -s train 'sleep 60'").returncode == 0
    assert b"train" in box.ssh("tmux ls").stdout
    box.ssh("tmux kill-session -t train")


@needs_tmux
@pytest.mark.parametrize("isolation", ["auto", "none"])
def test_a_container_restart_ends_every_process_and_runs_onstart_again(tmp_path: Path, isolation: str) -> None:
    onstart = "date +%s%N >> $HOME/workspace/starts; sleep 600 & wait"
    with rented(tmp_path, create={"onstart": onstart}, isolation=isolation) as box:
        starts = box.root / "workspace/starts"
        box.ssh("tmux new-session -d -s train 'sleep 600'; nohup setsid sleep 600 >/dev/null 2>&1 </dev/null &")
        wait_for(starts.exists)
        box.emulator.world.restart_container(box.id)
        box.emulator.settle()
        assert box.ssh("tmux ls").returncode != 0
        wait_for(lambda: len(starts.read_text().splitlines()) == 2)
        shown = box.ssh("ps -eo args" if isolation == "auto" else "true").stdout
        assert shown.count(b"sleep 600") <= 1


@needs_tmux
@isolated_only
def test_processes_outlive_the_emulator_and_a_new_one_goes_on_with_the_box(tmp_path: Path) -> None:
    state, key = tmp_path / "state", key_pair(tmp_path)
    with running(state, scenario=scenario(), keep_boxes=True) as first:
        box = rent(first, key, onstart="echo started >> /workspace/starts")
        box.ssh("tmux new-session -d -s train 'sleep 600'")
        before = (box.id, box.port(), first.key)
    with running(state, scenario=scenario()) as second:
        again = Box(second, box.id, key)
        second.settle()
        assert (again.id, again.port(), second.key) == before
        assert b"train" in again.ssh("tmux ls").stdout
        assert (again.root / "workspace/starts").read_text() == "started\n"


@isolated_only
def test_two_boxes_do_not_see_each_other(tmp_path: Path) -> None:
    with rented(tmp_path) as one:
        two = rent(one.emulator, key_pair(tmp_path, "other"), offer=7_100_002)
        one.ssh("echo secret > /workspace/mine; nohup sleep 4321 >/dev/null 2>&1 </dev/null &")
        assert b"sleep 4321" not in two.ssh("ps -eo args").stdout
        assert two.ssh("ls /workspace").stdout == b""
        assert two.ssh(f"cat {one.root}/workspace/mine").returncode != 0
        swapped = Box(one.emulator, two.id, one.key)
        assert swapped.ssh("true").returncode == 255


@isolated_only
def test_the_operators_files_are_not_on_the_box(tmp_path: Path) -> None:
    (tmp_path / "diary").write_text("private")
    with rented(tmp_path) as box:
        assert box.ssh(f"cat {tmp_path}/diary").returncode != 0
        assert box.ssh("touch /usr/bin/x").returncode != 0


def test_reboot_changes_port_and_host_key_and_keeps_the_data(tmp_path: Path) -> None:
    with rented(tmp_path) as box:
        box.ssh("echo kept > workspace/data")
        before = (box.port(), host_key(box))
        box.emulator.world.reboot(box.id)
        box.emulator.settle()
        after = (box.port(), host_key(box))
        assert before[0] != after[0]
        assert before[1] != after[1]
        assert box.ssh("cat workspace/data").stdout == b"kept\n"


def test_recycle_loses_the_data(tmp_path: Path) -> None:
    with rented(tmp_path) as box:
        box.ssh("echo lost > workspace/data")
        box.emulator.world.reboot(box.id, wipe=True)
        box.emulator.settle()
        assert box.ssh("cat workspace/data").returncode == 1


def test_the_container_log_has_the_host_key_and_then_onstart(tmp_path: Path) -> None:
    with rented(tmp_path, create={"onstart": "echo hello from onstart; env", "env": {"COLOR": "blue"}}) as box:
        log = box.root.parent / "container.log"
        wait_for(lambda: "COLOR=blue" in log.read_text())
        head, _, rest = log.read_text().partition("-----END SSH HOST KEY KEYS-----\n")
        assert host_key(box) in head.splitlines()[1]
        assert "hello from onstart" in rest
        assert "CONTAINER_API_KEY=" in rest


def test_destroy_removes_the_disk_and_closes_the_door(tmp_path: Path) -> None:
    with rented(tmp_path) as box:
        port = box.port()
        box.emulator.world.destroy(box.id)
        box.emulator.settle()
        assert not box.root.exists()
        closed = subprocess.run(["ssh-keyscan", "-T", "2", "-p", port, "127.0.0.1"], capture_output=True, check=False)
        assert closed.stdout == b""


def test_stop_ends_processes_and_keeps_the_disk(tmp_path: Path) -> None:
    with rented(tmp_path) as box:
        box.ssh("echo kept > workspace/data")
        box.emulator.world.stop(box.id)
        box.emulator.settle()
        assert (box.root / "workspace/data").read_text() == "kept\n"
        box.emulator.world.start(box.id)
        box.emulator.settle()
        assert box.ssh("cat workspace/data").stdout == b"kept\n"


def test_what_onstart_appends_to_authorized_keys_vanishes_with_time(tmp_path: Path) -> None:
    late = key_pair(tmp_path, "late")
    line = late.with_suffix(".pub").read_text().strip()
    with rented(tmp_path, create={"onstart": f"echo '{line}' >> $HOME/.ssh/authorized_keys; echo appended"}) as box:
        wait_for(lambda: "appended" in (box.root.parent / "container.log").read_text())
        guest = Box(box.emulator, box.id, late)
        assert guest.ssh("true").returncode == 0
        box.emulator.clock.turn(3601)
        wait_for(lambda: guest.ssh("true").returncode == 255)
        assert box.ssh("true").returncode == 0


def test_both_routes_lead_to_the_box(tmp_path: Path) -> None:
    with rented(tmp_path) as box:
        rental = box.emulator.world.rental(box.id)
        for port in (rental.ssh_port, rental.proxy_port):
            line = ["ssh", "-p", str(port), *box.options(), "root@127.0.0.1", "echo here"]
            assert subprocess.run(line, capture_output=True, timeout=120, check=False).stdout == b"here\n"


def test_sftp_beyond_the_quota_says_no_space(tmp_path: Path) -> None:
    with rented(tmp_path, create={"disk": 0.03}) as box:
        (tmp_path / "big").write_bytes(bytes(60_000_000))
        done = box.copy(str(tmp_path / "big"), "root@127.0.0.1:/workspace/big")
        assert done.returncode != 0
        assert (box.root / "workspace/big").stat().st_size < 60_000_000


@isolated_only
def test_commands_beyond_the_quota_cannot_write(tmp_path: Path) -> None:
    with rented(tmp_path, create={"disk": 0.03}) as box:
        program = "import time\nwith open('workspace/big', 'wb') as file:\n"
        program += "    for _ in range(600):\n        file.write(bytes(1 << 20)); time.sleep(0.02)\n"
        writer = f"python3 -c {shlex.quote(program)}"
        done = box.ssh(writer)
        assert done.returncode != 0
        assert b"File too large" in done.stderr
        box.ssh("rm workspace/big")
        wait_for(lambda: box.ssh("echo again > workspace/small").returncode == 0)


def test_asyncssh_client_agrees_on_the_host_key(box: Box) -> None:
    import asyncssh

    async def shown() -> str:
        key = await asyncssh.get_server_host_key("127.0.0.1", int(box.port()))
        assert key is not None
        return key.export_public_key().decode().split()[1]

    assert asyncio.run(shown()) in host_key(box)


def host_key(box: Box) -> str:
    line = ["ssh-keyscan", "-t", "ed25519", "-p", box.port(), "127.0.0.1"]
    shown = subprocess.run(line, capture_output=True, check=True, timeout=120).stdout.decode()
    return next(row for row in shown.splitlines() if not row.startswith("#")).split(" ", 1)[1]


def wait_for(holds: object, seconds: float = 15.0) -> None:
    assert callable(holds)
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


@isolated_only
def test_this_machines_disks_are_not_on_the_box(tmp_path: Path) -> None:
    with rented(tmp_path) as box:
        assert box.ssh('for node in /dev/*; do [ ! -b "$node" ] || echo "$node"; done').stdout == b""
        assert box.ssh("head -c 5 /dev/urandom | wc -c; echo x > /dev/null && touch /dev/shm/own").stdout == b"5\n"
        assert not Path("/dev/shm/own").exists()


@isolated_only
def test_a_box_whose_directory_was_deleted_ends_by_itself(tmp_path: Path) -> None:
    with running(tmp_path / "state", scenario=scenario(), keep_boxes=True) as emulator:
        box = rent(emulator, key_pair(tmp_path))
        holder = Container(Layout(box.root.parent), isolated=True)._holder()
    assert holder is not None
    shutil.rmtree(box.root.parent)
    wait_for(lambda: not holder.is_running() or holder.status() == "zombie", 25)


def test_a_port_that_was_taken_meanwhile_is_waited_for(tmp_path: Path) -> None:
    with rented(tmp_path) as box:
        box.emulator.world.stop(box.id)
        box.emulator.settle()
        with socket.socket() as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            thief.bind(("127.0.0.1", int(box.port())))
            thief.listen()
            box.emulator.world.start(box.id)
            with pytest.raises(NotSettled):
                box.emulator.settle(1.0)
        box.emulator.settle()
        assert box.ssh("echo in").stdout == b"in\n"
