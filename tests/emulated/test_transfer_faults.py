"""Real cuts of real connections to a real sshd: a download ends verified or held, and never wrong."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.delay_proxy import Proxy
from benchmarks.local_sshd import SSHD, LocalSshd
from harness.core.clock import SystemClock
from harness.core.errors import HarnessError, HostUnreachable, LocalDiskFull, RemoteChanged, TransferFailed
from harness.core.ids import Sha256
from harness.core.ports import Endpoint, Progress, RemoteFile
from harness.remote import host as host_module
from harness.remote.host import SshHost
from harness.remote.ssh import connection
from harness.remote.ssh.connection import Login
from harness.remote.transfer import journal as journals
from harness.remote.transfer.attempt import TransferLimits
from harness.remote.transfer.journal import Journal
from harness.remote.transfer.streams import RangeStream

pytestmark = pytest.mark.skipif(SSHD is None, reason="sshd is not installed")

MIB = 1 << 20
LIMITS = TransferLimits(stall=1.0, patience=30.0)
PATIENT = TransferLimits(patience=30.0)
"""Where nothing stalls, and what is opened is counted."""


@pytest.fixture
def box(tmp_path: Path) -> Iterator[LocalSshd]:
    server = LocalSshd(tmp_path / "box")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of the streams that were opened from here on; the box counts as near."""
    paths: list[str] = []
    real = SshHost.open

    def noted(self: SshHost, remote: RemoteFile, *args: Any, **more: Any) -> RangeStream:
        paths.append(remote.path)
        return real(self, remote, *args, **more)

    monkeypatch.setattr(SshHost, "open", noted)
    monkeypatch.setattr(SshHost, "connections", lambda _self, _size: 1)
    return paths


def model(box: LocalSshd, size: int, name: str = "model.gguf") -> RemoteFile:
    return _model_in(box.home, size, name)


def _model_in(home: Path, size: int, name: str = "model.gguf") -> RemoteFile:
    data = random.Random(size).randbytes(size)
    (home / name).write_bytes(data)
    return RemoteFile(name, size, Sha256(hashlib.sha256(data).hexdigest()))


def host_behind(box: LocalSshd, proxy: Proxy, limits: TransferLimits = LIMITS) -> SshHost:
    return SshHost(box.login(proxy.port), SystemClock(), patience=5.0, limits=limits)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_home(remote: RemoteFile, destination: Path) -> None:
    assert digest(destination) == remote.sha256
    assert [path.name for path in destination.parent.iterdir()] == [destination.name]
    assert not os.access(destination, os.W_OK) or os.geteuid() == 0
    assert destination.stat().st_mode & 0o222 == 0


@pytest.mark.slow
def test_twenty_cuts_at_random_bytes_cost_nearly_nothing(box: LocalSshd, tmp_path: Path) -> None:
    remote = model(box, 96 * MIB)
    with Proxy(box.port, rate=60e6) as proxy:
        proxy.faults.cuts = sorted(random.Random(7).sample(range(MIB, 96 * MIB), 20))
        host = host_behind(box, proxy)
        host.fetch(remote, tmp_path / "home" / "model.gguf")
        host.close()
        assert proxy.cuts_made == 20
        # What a cut costs is what was under way in the proxy and the windows, and the new connections' handshakes.
        assert proxy.home_bytes < remote.size * 1.05
    assert_home(remote, tmp_path / "home" / "model.gguf")


def test_bytes_received_are_not_fetched_twice(box: LocalSshd, tmp_path: Path) -> None:
    remote = model(box, 32 * MIB)
    told: list[Progress] = []
    with Proxy(box.port, rate=60e6) as proxy:
        proxy.faults.cuts = [5 * MIB, 15 * MIB, 25 * MIB]
        host = host_behind(box, proxy)
        host.fetch(remote, tmp_path / "home" / "model.gguf", told.append)
        host.close()
    assert max(progress.done for progress in told) == remote.size
    done = [progress.done for progress in told]
    assert done == sorted(done)


def test_a_stall_is_cut_and_the_rest_fetched(box: LocalSshd, tmp_path: Path) -> None:
    remote = model(box, 24 * MIB)
    with Proxy(box.port, rate=20e6) as proxy:
        host = host_behind(box, proxy, TransferLimits(stall=0.5, patience=30.0))

        silenced = threading.Event()

        def speak() -> None:
            proxy.faults.silent = False
            proxy.cut()

        def fall_silent(progress: Progress) -> None:
            if progress.done > 4 * MIB and not silenced.is_set():
                silenced.set()
                proxy.faults.silent = True
                threading.Timer(1.5, speak).start()

        host.fetch(remote, tmp_path / "home" / "model.gguf", fall_silent)
        host.close()
        assert silenced.is_set()
    assert_home(remote, tmp_path / "home" / "model.gguf")


def test_silence_without_end_is_held_and_continued_later(box: LocalSshd, tmp_path: Path) -> None:
    remote = model(box, 24 * MIB)
    target = tmp_path / "home" / "model.gguf"
    with Proxy(box.port, rate=20e6) as proxy:
        host = host_behind(box, proxy, TransferLimits(stall=0.5, patience=2.0))

        def fall_silent(progress: Progress) -> None:
            proxy.faults.silent = progress.done > 8 * MIB

        with pytest.raises(HostUnreachable):
            host.fetch(remote, target, fall_silent)
        host.close()
        assert not target.exists()
        proxy.faults.silent = False
        proxy.cut()
        before = proxy.home_bytes
        again = host_behind(box, proxy)
        again.fetch(remote, target)
        again.close()
        assert proxy.home_bytes - before < remote.size * 0.9
    assert_home(remote, target)


def test_the_way_to_a_box_that_fell_silent_is_not_measured_for_ever(
    box: LocalSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(box.port) as proxy:
        login = box.login(proxy.port)
        live = connection.connect(login, login.endpoints[0])
        assert live.round_trip(SystemClock()) > 0
        monkeypatch.setattr(connection, "CONNECT_TIMEOUT_S", 0.5)
        proxy.faults.silent = True
        with pytest.raises(HostUnreachable, match="does not answer"):
            live.round_trip(SystemClock())
        assert not live.alive()


def test_a_server_that_was_killed_and_came_back(box: LocalSshd, tmp_path: Path) -> None:
    remote = model(box, 32 * MIB)
    with Proxy(box.port, rate=20e6) as proxy:
        host = host_behind(box, proxy)
        died = threading.Event()

        def die(progress: Progress) -> None:
            if progress.done > 8 * MIB and not died.is_set():
                died.set()
                box.kill()
                threading.Timer(0.5, box.start).start()

        host.fetch(remote, tmp_path / "home" / "model.gguf", die)
        host.close()
        assert died.is_set()
    assert_home(remote, tmp_path / "home" / "model.gguf")


def test_a_box_that_came_back_on_another_port(box: LocalSshd, tmp_path: Path) -> None:
    remote = model(box, 32 * MIB)
    with Proxy(box.port, rate=20e6) as old, Proxy(box.port, rate=20e6) as new:
        moved = threading.Event()

        def whereabouts() -> Login:
            return box.login(new.port if moved.is_set() else old.port)

        host = SshHost(box.login(old.port), SystemClock(), whereabouts=whereabouts, patience=5.0, limits=LIMITS)

        def move(progress: Progress) -> None:
            if progress.done > 8 * MIB and not moved.is_set():
                moved.set()
                old.faults.refuse = True
                old.cut()

        host.fetch(remote, tmp_path / "home" / "model.gguf", move)
        host.close()
        assert new.home_bytes > 8 * MIB
    assert_home(remote, tmp_path / "home" / "model.gguf")


def test_the_second_route_is_taken_when_the_first_is_closed(box: LocalSshd, tmp_path: Path) -> None:
    remote = model(box, MIB)
    login = box.login()
    closed = Endpoint("127.0.0.1", 1, "direct")
    both = Login(login.user, (closed, Endpoint("127.0.0.1", box.port, "proxy")), login.key_file, login.host_keys)
    host = SshHost(both, SystemClock(), patience=5.0)
    host.fetch(remote, tmp_path / "home" / "m")
    host.close()
    assert_home(remote, tmp_path / "home" / "m")


def test_bits_flipped_in_transit_cost_a_connection_each_and_reach_no_file(box: LocalSshd, tmp_path: Path) -> None:
    remote = model(box, 48 * MIB)
    with Proxy(box.port, rate=40e6) as proxy:
        proxy.faults.flips = [6 * MIB, 20 * MIB, 34 * MIB]
        host = host_behind(box, proxy)
        host.fetch(remote, tmp_path / "home" / "model.gguf")
        host.close()
        assert proxy.faults.flips == []
        assert proxy.home_bytes > remote.size, "nothing was fetched again: the bits were not noticed"
        assert proxy.home_bytes < remote.size * 1.3
    assert_home(remote, tmp_path / "home" / "model.gguf")


def test_a_flipped_byte_on_the_local_disk_costs_its_chunk_alone(box: LocalSshd, tmp_path: Path) -> None:
    remote = model(box, 32 * MIB)
    target = tmp_path / "home" / "model.gguf"
    part = target.with_name("model.gguf.part")
    with Proxy(box.port) as proxy:
        proxy.faults.cuts = [28 * MIB]
        host = host_behind(box, proxy, TransferLimits(stall=1.0, patience=1.0))

        def refuse(progress: Progress) -> None:
            proxy.faults.refuse = progress.done > 4 * MIB

        with pytest.raises(HostUnreachable):
            host.fetch(remote, target, refuse)
        host.close()
        proxy.faults.refuse = False
        with part.open("r+b") as file:
            file.seek(3 * MIB + 17)
            byte = file.read(1)[0]
            file.seek(3 * MIB + 17)
            file.write(bytes([byte ^ 1]))
        before = proxy.home_bytes
        again = host_behind(box, proxy)
        again.fetch(remote, target)
        again.close()
        assert proxy.home_bytes - before < 12 * MIB
    assert_home(remote, target)


def test_a_flipped_byte_on_the_box_is_refused(box: LocalSshd, tmp_path: Path) -> None:
    remote = model(box, 8 * MIB)
    with (box.home / remote.path).open("r+b") as file:
        file.seek(5 * MIB)
        byte = file.read(1)[0]
        file.seek(5 * MIB)
        file.write(bytes([byte ^ 1]))
    refused(box, remote, tmp_path, RemoteChanged)


@pytest.mark.parametrize("size", [0, 5 * MIB, 8 * MIB - 1])
def test_a_truncated_file_is_refused(box: LocalSshd, tmp_path: Path, size: int) -> None:
    remote = model(box, 8 * MIB)
    os.truncate(box.home / remote.path, size)
    refused(box, remote, tmp_path, TransferFailed)


def test_a_file_cut_and_zero_extended_is_refused(box: LocalSshd, tmp_path: Path) -> None:
    remote = model(box, 8 * MIB)
    os.truncate(box.home / remote.path, 5 * MIB)
    os.truncate(box.home / remote.path, 8 * MIB)
    refused(box, remote, tmp_path, RemoteChanged)


def test_a_file_that_grew_is_refused(box: LocalSshd, tmp_path: Path) -> None:
    remote = model(box, 8 * MIB)
    os.truncate(box.home / remote.path, 9 * MIB)
    refused(box, remote, tmp_path, RemoteChanged)


def test_a_missing_file_is_refused(box: LocalSshd, tmp_path: Path) -> None:
    refused(box, RemoteFile("absent", 8 * MIB, Sha256("0" * 64)), tmp_path, TransferFailed)


def refused(box: LocalSshd, remote: RemoteFile, tmp_path: Path, error: type[HarnessError]) -> None:
    host = SshHost(box.login(), SystemClock(), patience=5.0, limits=LIMITS)
    target = tmp_path / "home" / "model.gguf"
    with pytest.raises(error):
        host.fetch(remote, target)
    host.close()
    assert not target.exists()


def test_a_file_replaced_in_mid_download_is_noticed(box: LocalSshd, tmp_path: Path) -> None:
    remote = model(box, 24 * MIB)
    target = tmp_path / "home" / "model.gguf"
    with Proxy(box.port, rate=20e6) as proxy:
        host = host_behind(box, proxy)
        swapped = threading.Event()
        (box.home / "new").write_bytes(random.Random(1).randbytes(24 * MIB))

        def replace(progress: Progress) -> None:
            if 0 < progress.done < remote.size and not swapped.is_set():
                swapped.set()
                (box.home / "new").replace(box.home / remote.path)

        with pytest.raises(RemoteChanged):
            host.fetch(remote, target, replace)
        assert swapped.is_set()
        assert not target.exists()
        data = (box.home / remote.path).read_bytes()
        anew = RemoteFile(remote.path, len(data), Sha256(hashlib.sha256(data).hexdigest()))
        host.fetch(anew, target)
        host.close()
    assert_home(anew, target)


def test_a_file_touched_in_mid_download_goes_on(box: LocalSshd, tmp_path: Path) -> None:
    remote = model(box, 24 * MIB)
    target = tmp_path / "home" / "model.gguf"
    with Proxy(box.port, rate=20e6) as proxy:
        host = host_behind(box, proxy)

        touched = threading.Event()

        def touch(progress: Progress) -> None:
            if 0 < progress.done < remote.size and not touched.is_set():
                touched.set()
                os.utime(box.home / remote.path, (1, 1))

        host.fetch(remote, target, touch)
        host.close()
        assert touched.is_set()
        assert proxy.home_bytes < remote.size * 1.5
    assert_home(remote, target)


def test_a_full_disk_is_seen_before_the_first_byte(
    box: LocalSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = model(box, 8 * MIB)
    monkeypatch.setattr(journals, "SPARE", 1 << 60)
    refused(box, remote, tmp_path, LocalDiskFull)
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists() or os.geteuid() != 0, reason="needs root to mount a small disk")
def test_a_disk_that_fills_up_meanwhile_is_told_and_continued(
    box: LocalSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(small)], check=False)
    if mounted.returncode != 0:
        pytest.skip("cannot mount here")
    try:
        remote = model(box, 16 * MIB)
        monkeypatch.setattr(journals, "SPARE", -64 * MIB)  # the room was there when it was looked at
        monkeypatch.setattr(os, "posix_fallocate", lambda *_: None)  # as on a file system that cannot reserve
        host = SshHost(box.login(), SystemClock(), patience=5.0, limits=LIMITS)
        with pytest.raises(LocalDiskFull):
            host.fetch(remote, small / "model.gguf")
        assert not (small / "model.gguf").exists()
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        host.fetch(remote, small / "model.gguf")
        host.close()
        assert digest(small / "model.gguf") == remote.sha256
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_disk_that_takes_its_time_to_make_room_is_not_a_silent_box(
    box: LocalSshd, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Journal, "reserve", lambda _self, _file: time.sleep(2.0))
    host = SshHost(box.login(), SystemClock(), patience=5.0, limits=TransferLimits(stall=1.0, patience=1.0))
    remote = model(box, 8 * MIB)
    host.fetch(remote, tmp_path / "home" / "model.gguf")
    host.close()
    assert opened == ["model.gguf"]
    assert_home(remote, tmp_path / "home" / "model.gguf")


@pytest.mark.skipif(sys.platform != "linux", reason="room is set aside on Linux alone")
def test_a_file_system_that_cannot_set_room_aside_does_without(
    box: LocalSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    host = SshHost(box.login(), SystemClock(), patience=5.0, limits=LIMITS)
    remote = model(box, 8 * MIB)
    host.fetch(remote, tmp_path / "home" / "model.gguf")
    host.close()
    assert_home(remote, tmp_path / "home" / "model.gguf")


CLIENT = """
import sys
from pathlib import Path
from harness.core.clock import SystemClock
from harness.core.ports import Endpoint, RemoteFile
from harness.remote.host import SshHost
from harness.remote.transfer.journal import Journal
from harness.remote.ssh.connection import Login
user, port, key, pin, path, size, digest, target = sys.argv[1:]
login = Login(user, (Endpoint("127.0.0.1", int(port)),), Path(key), (pin,))
SshHost(login, SystemClock(), patience=5.0).fetch(RemoteFile(path, int(size), digest), Path(target))
"""


def test_kill_nine_of_the_client_keeps_the_journaled_chunks(box: LocalSshd, tmp_path: Path) -> None:
    remote = model(box, 32 * MIB)
    target = tmp_path / "home" / "model.gguf"
    login = box.login()
    with Proxy(box.port, rate=15e6) as proxy:
        where = [login.user, str(proxy.port), str(login.key_file), *login.host_keys]
        arguments = [*where, remote.path, str(remote.size), remote.sha256, str(target)]
        for _ in range(3):
            before = proxy.home_bytes
            client = subprocess.Popen(
                [sys.executable, "-c", CLIENT, *arguments],
            )
            deadline = time.monotonic() + 120
            while proxy.home_bytes - before < 8 * MIB and time.monotonic() < deadline and client.poll() is None:
                time.sleep(0.02)
            client.send_signal(signal.SIGKILL)
            client.wait()
            assert not target.exists()
        spent = proxy.home_bytes
        host = host_behind(box, proxy)
        host.fetch(remote, target)
        host.close()
        assert spent > 20 * MIB
        assert proxy.home_bytes < remote.size + 4 * 8 * MIB * 2
    assert_home(remote, target)


def test_a_finished_file_is_recognised_and_not_fetched_again(box: LocalSshd, tmp_path: Path) -> None:
    remote = model(box, 8 * MIB)
    target = tmp_path / "home" / "model.gguf"
    with Proxy(box.port) as proxy:
        host = host_behind(box, proxy)
        host.fetch(remote, target)
        before = proxy.home_bytes
        target.with_name("model.gguf.part.journal").write_text("left by a crash after the rename")
        host.fetch(remote, target)
        assert proxy.home_bytes == before
        host.close()
    assert_home(remote, target)


def test_an_older_file_at_the_destination_is_replaced_whole(box: LocalSshd, tmp_path: Path) -> None:
    remote = model(box, 3 * MIB)
    target = tmp_path / "home" / "training.log"
    target.parent.mkdir()
    target.write_bytes(b"older")
    target.chmod(0o444)
    host = SshHost(box.login(), SystemClock(), patience=5.0)
    host.fetch(remote, target)
    host.close()
    assert_home(remote, target)


def test_an_empty_file_arrives(box: LocalSshd, tmp_path: Path) -> None:
    remote = model(box, 0)
    host = SshHost(box.login(), SystemClock(), patience=5.0)
    host.fetch(remote, tmp_path / "home" / "empty")
    host.close()
    assert (tmp_path / "home" / "empty").read_bytes() == b""


@pytest.mark.slow
def test_a_network_that_caps_each_connection_gets_more_of_them(
    box: LocalSshd, opened: list[str], tmp_path: Path
) -> None:
    remote = model(box, 64 * MIB)
    with Proxy(box.port, rate=4e6) as proxy:
        host = host_behind(box, proxy, PATIENT)
        host.fetch(remote, tmp_path / "home" / "model.gguf")
        host.close()
        assert proxy.home_bytes < remote.size * 1.05
    assert_home(remote, tmp_path / "home" / "model.gguf")
    assert len(opened) >= 3


@pytest.mark.parametrize("after", [100_000, 5 * MIB], ids=["at once", "in the middle"])
def test_a_box_that_slips_bytes_in_gives_its_file_no_name(tmp_path: Path, after: int) -> None:
    box = LocalSshd(tmp_path / "box", _with_python(tmp_path, f"| {{ head -c {after}; head -c 70000 /dev/zero; cat; }}"))
    box.start()
    remote = model(box, 8 * MIB)
    host = SshHost(box.login(), SystemClock(), patience=5.0, limits=TransferLimits(stall=1.0, patience=5.0))
    try:
        with pytest.raises((TransferFailed, HostUnreachable)):
            host.fetch(remote, tmp_path / "home" / "model.gguf")
    finally:
        host.close()
        box.stop()
    assert not (tmp_path / "home" / "model.gguf").exists()
    part = tmp_path / "home" / "model.gguf.part"
    assert not part.exists() or part.stat().st_size == remote.size


def test_bytes_sent_over_what_is_here_already_are_found_and_fetched_again(tmp_path: Path) -> None:
    """The first chunk is missing; a box that sends more than that writes over the second."""
    box = LocalSshd(tmp_path / "box", _with_python(tmp_path, f"| {{ head -c {MIB}; head -c 300000 /dev/zero; cat; }}"))
    box.start()
    try:
        remote = model(box, 8 * MIB)
        target = tmp_path / "home" / "model.gguf"
        target.parent.mkdir()
        journal = Journal(remote, target)
        assert journal.chunk == MIB
        journal.open()
        journal.part.write_bytes((box.home / "model.gguf").read_bytes())
        with journal.part.open("r+b") as file:
            file.write(bytes(MIB))
        journal.commit(list(range(1, 8)))
        host = SshHost(box.login(), SystemClock(), patience=5.0, limits=LIMITS)
        with contextlib.suppress(TransferFailed):  # it may be cut off before the surplus comes
            host.fetch(remote, target)
        host.close()
        assert not target.exists() or digest(target) == remote.sha256
        (tmp_path / "bin" / "python3").unlink()  # the box's own python3 again
        honest = SshHost(box.login(), SystemClock(), patience=5.0, limits=LIMITS)
        honest.fetch(remote, target)
        honest.close()
    finally:
        box.stop()
    assert_home(remote, target)


def _with_python(directory: Path, behind: str) -> dict[str, str]:
    """An environment whose python3 is the real one with something behind its output."""
    (directory / "bin").mkdir()
    program = directory / "bin" / "python3"
    program.write_text(f'#!/bin/sh\n"{sys.executable}" "$@" {behind}\n')
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}


def test_an_error_that_nobody_thought_of_ends_the_transfer_and_says_so(
    box: LocalSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any, **_more: Any) -> None:
        raise RuntimeError("nobody thought of it")

    monkeypatch.setattr(host_module, "RangeStream", fail)
    host = SshHost(box.login(), SystemClock(), patience=5.0, limits=PATIENT)
    with pytest.raises(TransferFailed, match="RuntimeError: nobody thought of it"):
        host.fetch(model(box, 8 * MIB), tmp_path / "home" / "model.gguf")
    host.close()
