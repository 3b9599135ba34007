from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from paramiko import Channel

from benchmarks.delay_proxy import Proxy
from benchmarks.local_sshd import SSHD, LocalSshd
from harness.core.answers import Digest
from harness.core.clock import SystemClock
from harness.core.errors import BadInput, HostUnreachable, TransferFailed
from harness.core.ids import Sha256
from harness.core.ports import Host, RemoteFile
from harness.core.questions import DigestOf, DiskOf, Glob, GpuList, ReadText
from harness.remote.host import SshHost
from harness.remote.ssh.command import run_command
from harness.remote.ssh.connection import connect
from harness.remote.ssh.pipe import CommandPipe
from tests.support.memory import peak_memory

pytestmark = pytest.mark.skipif(SSHD is None, reason="sshd is not installed")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSshd]:
    server = LocalSshd(tmp_path_factory.mktemp("box") / "sshd")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def host(box: LocalSshd) -> Iterator[Host]:
    made = SshHost(box.login(), SystemClock(), patience=5.0)
    yield made
    made.close()


def digest(data: bytes) -> Sha256:
    return Sha256(hashlib.sha256(data).hexdigest())


def test_run_returns_status_and_both_streams(host: Host) -> None:
    ran = host.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (ran.status, ran.stdout, ran.stderr) == (3, b"out\n", b"err\n")


def test_every_word_of_a_command_arrives_as_it_was(host: Host) -> None:
    words = ["$(id)", "a b", "-n", "'", "*", "", "\n", ";rm", "ü"]
    ran = host.run(["sh", "-c", 'for word in "$@"; do printf "%s|" "$word"; done', "sh", *words])
    assert ran.stdout.decode() == "|".join([*words, ""])


def test_probe_answers_and_names_problems(host: Host, box: LocalSshd) -> None:
    (box.home / "file").write_text("x")
    answers = host.probe([file := DigestOf("file"), folder := ReadText(".", limit=10), DigestOf("file")])
    assert answers[file].get() == Digest(exists=True, bytes=1, sha256=digest(b"x"))
    assert "IsADirectoryError" in str(answers[folder].problem)
    assert answers[Glob("*")].problem is not None
    assert list(answers.by_question) == [file, folder]


def test_fetch_brings_the_very_bytes(host: Host, box: LocalSshd, tmp_path: Path) -> None:
    data = bytes(range(256)) * 20_000
    (box.home / "model").write_bytes(data)
    host.fetch(RemoteFile("model", len(data), digest(data)), tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_send_makes_the_directory_hold_exactly_the_files(host: Host, box: LocalSshd, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b").write_bytes(b"two")
    (tmp_path / "a").write_bytes(b"one")
    (box.home / "package").mkdir()
    (box.home / "package" / "stale").write_text("old")
    host.send(tmp_path, "package", {"a": digest(b"one"), "sub/b": digest(b"two")})
    there = {str(p.relative_to(box.home / "package")) for p in (box.home / "package").rglob("*") if p.is_file()}
    assert {name for name in there if not name.startswith(".harness/")} == {"a", "sub/b"}


def test_send_takes_files_that_lie_elsewhere(host: Host, box: LocalSshd, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "a").write_bytes(b"one")
    (tmp_path / "checkpoint").write_bytes(b"two")
    files = {"a": digest(b"one"), "models/checkpoint": digest(b"two")}
    elsewhere = {"models/checkpoint": tmp_path / "checkpoint"}
    host.send(tmp_path / "package", "with-checkpoint", files, elsewhere=elsewhere)
    assert (box.home / "with-checkpoint/models/checkpoint").read_bytes() == b"two"
    (tmp_path / "checkpoint").write_bytes(b"torn")
    with pytest.raises(BadInput, match="changed since its digest was taken"):
        host.send(tmp_path / "package", "with-checkpoint", files, elsewhere=elsewhere)
    with pytest.raises(TransferFailed, match="is refused"):
        host.send(tmp_path, "with-checkpoint", {"../a": digest(b"two")}, elsewhere={"../a": tmp_path / "checkpoint"})


def test_mirror_brings_a_whole_directory_or_none(host: Host, box: LocalSshd, tmp_path: Path) -> None:
    (box.home / "weights").write_bytes(b"1" * 1000)
    (box.home / "state").write_bytes(b"2" * 1000)
    files = {"weights": "weights", "deep/state": "state"}
    with pytest.raises(TransferFailed):
        host.mirror(files, tmp_path / "checkpoint-1", lambda: True)
    assert not (tmp_path / "checkpoint-1").exists()
    host.mirror(files, tmp_path / "checkpoint-1")
    assert (tmp_path / "checkpoint-1" / "deep" / "state").read_bytes() == b"2" * 1000
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_a_big_input_and_a_big_output_do_not_block_each_other(host: Host) -> None:
    data = bytes(range(256)) * 40_000
    assert host.run(["cat"], stdin=data, limit=len(data)).stdout == data


def test_output_is_cut_at_the_limit_and_the_status_still_told(host: Host) -> None:
    ran = host.run(["sh", "-c", "head -c 5000000 /dev/zero; echo x >&2; exit 4"], limit=1000)
    assert (ran.status, len(ran.stdout), ran.stderr) == (4, 1000, b"x\n")


def test_a_command_is_heard_while_it_runs(host: Host) -> None:
    heard: list[bytes] = []
    ran = host.run(["sh", "-c", "echo out; echo err >&2; echo more"], heard=heard.append)
    assert b"".join(heard) == ran.stdout == b"out\nmore\n"

    def enough(said: bytes) -> None:
        raise LookupError(said.decode())

    with pytest.raises(LookupError, match="begun"):
        host.run(["sh", "-c", "echo begun; sleep 30"], heard=enough)
    assert host.run(["true"]).status == 0


def test_a_command_killed_by_a_signal_has_no_exit_status(host: Host) -> None:
    assert host.run(["sh", "-c", "kill -9 $$"]).status in (-1, 137)


def test_a_command_that_does_not_end_is_given_up(host: Host) -> None:
    with pytest.raises(HostUnreachable, match="did not end"):
        host.run(["sleep", "30"], timeout=0.5)
    assert host.run(["true"]).status == 0


def test_what_a_login_shell_prints_is_no_answer(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "python3").write_text(f'#!/bin/sh\necho Welcome\nprintf "> "\nexec {sys.executable} "$@"\n')
    (tools / "python3").chmod(0o755)
    chatty = LocalSshd(tmp_path / "chatty", {"PATH": f"{tools}:{os.environ['PATH']}"})
    chatty.start()
    asked = SshHost(chatty.login(), SystemClock(), patience=5.0)
    try:
        for size in (0, 100, 5 << 20):  # small files share a connection, others have their own
            data = bytes(range(256)) * (size // 256) + bytes(size % 256)
            (chatty.home / "file").write_bytes(data)
            remote = RemoteFile("file", len(data), digest(data))
            asked.fetch(remote, tmp_path / f"file-{size}")
            assert (tmp_path / f"file-{size}").read_bytes() == data
            assert asked.digests(remote, 1 << 20).whole == digest(data)
        (tmp_path / "package").mkdir()
        (tmp_path / "package" / "a").write_bytes(b"one")
        asked.send(tmp_path / "package", "package", {"a": digest(b"one")})
        assert (chatty.home / "package" / "a").read_bytes() == b"one"
    finally:
        asked.close()
        chatty.stop()


def test_a_box_that_freezes_before_it_starts_a_command_is_given_up(tmp_path: Path) -> None:
    box = LocalSshd(tmp_path / "frozen")
    box.start()
    connection = connect(box.login(), box.login().endpoints[0])
    channel = connection.session()
    frozen = box.processes()
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(HostUnreachable, match="does not start commands"):
            connection.start(channel, "true", 0.5)
        assert not connection.alive()
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        box.stop()


def test_a_gigabyte_where_an_answer_should_be_is_refused_early(box: LocalSshd, host: Host) -> None:
    script = box.home / "python3"
    script.write_text("#!/bin/sh\nexec head -c 1000000000 /dev/zero\n")
    script.chmod(0o755)
    liar = LocalSshd(box.directory / "liar", {"PATH": f"{box.home}:{os.environ['PATH']}"})
    liar.start()
    asked = SshHost(liar.login(), SystemClock(), patience=5.0)
    before = peak_memory()
    try:
        assert "no answer" in str(asked.probe([disk := DiskOf("x")], timeout=60.0)[disk].problem)
        with pytest.raises(TransferFailed, match="answers oddly"):
            asked.fetch(RemoteFile("x", 10, digest(b"")), box.directory / "x")
        (box.directory / "s").mkdir()
        with pytest.raises(TransferFailed, match="more than it may"):
            asked.send(box.directory / "s", "package", {})
        with pytest.raises(TransferFailed, match="cannot be recorded"):
            asked.mirror({"a": "a"}, box.directory / "mirror" / "checkpoint-1")
        assert not (box.directory / "mirror").exists()
        assert peak_memory() - before < 96 << 20
    finally:
        asked.close()
        liar.stop()
    assert host.run(["true"]).status == 0


@contextlib.contextmanager
def missing_program(box: LocalSshd) -> Iterator[CommandPipe]:
    login = box.login()
    pipe = CommandPipe(connect(login, login.endpoints[0]), "exec no-such-program", mark="begun")
    with contextlib.closing(pipe):
        yield pipe


def test_a_program_that_is_not_there_is_told_by_a_read_and_by_a_write_behind_it(box: LocalSshd) -> None:
    with missing_program(box) as pipe:
        with pytest.raises(TransferFailed, match="no python3"):
            pipe.read(1)
        with pytest.raises(TransferFailed, match="no python3"):
            pipe.write(b"begin")


def test_a_program_that_is_not_there_is_told_by_a_write_that_waits_for_its_reader(box: LocalSshd) -> None:
    with missing_program(box) as pipe, pytest.raises(TransferFailed, match="no python3"):
        pipe.write(bytes(8 << 20))  # more than a channel's window


def test_a_box_without_python_says_so(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "stat", "cat", "wc", "sha256sum"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    bare = LocalSshd(tmp_path / "bare", {"PATH": str(tools)})
    bare.start()
    asked = SshHost(bare.login(), SystemClock(), patience=5.0)
    try:
        (bare.home / "x").write_text("abc")
        seen = asked.probe([file := DigestOf("x"), gpus := GpuList()])
        assert seen[file].get() == Digest(exists=True, bytes=3, sha256=digest(b"abc"))
        assert "needs python3" in str(seen[gpus].problem)
        with pytest.raises(TransferFailed, match="no python3"):
            asked.fetch(RemoteFile("x", 3, digest(b"abc")), tmp_path / "x")
    finally:
        asked.close()
        bare.stop()


def test_a_dropped_connection_is_made_again_for_the_next_question(box: LocalSshd) -> None:
    with Proxy(box.port) as proxy:
        asked = SshHost(box.login(proxy.port), SystemClock(), patience=5.0)
        assert asked.run(["true"]).status == 0
        proxy.cut()
        assert asked.run(["echo", "again"]).stdout == b"again\n"

        def cut_once_it_runs() -> None:
            deadline, ran = time.monotonic() + 120, box.home / "ran"
            while not (ran.exists() and ran.stat().st_size) and time.monotonic() < deadline:
                time.sleep(0.02)
            proxy.cut()

        watcher = threading.Thread(target=cut_once_it_runs)
        watcher.start()
        with pytest.raises(HostUnreachable):
            asked.run(["sh", "-c", "echo once >> ran; sleep 30"], timeout=40)
        watcher.join()
        assert (box.home / "ran").read_text() == "once\n"
        asked.close()


def test_a_cut_that_the_command_hears_of_before_the_connection_is_no_end_of_the_command(
    box: LocalSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Channel._unlink  # type: ignore[attr-defined]  # what a dying transport tells its channels with

    def first(channel: Channel) -> None:
        unlink(channel)
        time.sleep(0.2)

    monkeypatch.setattr(Channel, "_unlink", first)
    with Proxy(box.port) as proxy:
        login = box.login(proxy.port)
        with contextlib.closing(connect(login, login.endpoints[0])) as connection:
            cutter = threading.Timer(0.5, proxy.cut)
            cutter.start()
            with pytest.raises(HostUnreachable, match="did not end: the connection was cut"):
                run_command(connection, connection.session(), "sleep 30", SystemClock())
            cutter.join()


@pytest.mark.parametrize("path", ["a\nb", "", "$(id)"])
def test_a_remote_path_that_deceives_is_refused(host: Host, tmp_path: Path, path: str) -> None:
    with pytest.raises(BadInput, match="rename it on the box"):
        host.fetch(RemoteFile(path, 1, digest(b"x")), tmp_path / "x")


def test_a_path_with_spaces_and_quotes_is_only_a_path(host: Host, box: LocalSshd, tmp_path: Path) -> None:
    (box.home / "it's a 'model'.gguf").write_bytes(b"x")
    host.fetch(RemoteFile("it's a 'model'.gguf", 1, digest(b"x")), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"x"
