"""Who is talked to, and which names are believed."""

from __future__ import annotations

import itertools
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa

from benchmarks.local_sshd import SSHD, LocalSshd
from harness.core.answers import BoxCheckpoint, Entry, Tree, TreeEntry
from harness.core.clock import SystemClock
from harness.core.errors import BadInput, HostKeyChanged, HostUnreachable, ProviderUnavailable, TransferFailed
from harness.core.ports import Endpoint
from harness.core.questions import CheckpointsIn, Glob, Question, TreeOf
from harness.remote.path_safety import problem_of_relative, safe_relative, unsafe_paths
from harness.remote.ssh import connection
from harness.remote.ssh.connection import Dialer, Login, connect
from harness.remote.ssh.keys import generate_keypair, public_key
from harness.remote.ssh.pinning import HostKeys

needs_sshd = pytest.mark.skipif(SSHD is None, reason="sshd is not installed")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSshd]:
    server = LocalSshd(tmp_path_factory.mktemp("trust") / "sshd")
    server.start()
    yield server
    server.stop()


def test_a_new_key_is_private_and_kept(tmp_path: Path) -> None:
    public = generate_keypair(tmp_path / "keys" / "id")
    assert public.startswith("ssh-ed25519 ")
    assert generate_keypair(tmp_path / "keys" / "id") == public
    assert (tmp_path / "keys" / "id.pub").read_text() == public + "\n"
    assert sys.platform == "win32" or (tmp_path / "keys" / "id").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"", b"not a key", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAA\n"])
def test_an_unusable_key_is_bad_input(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "id").write_bytes(content)
    with pytest.raises(BadInput):
        public_key(tmp_path / "id")
    with pytest.raises(BadInput):
        public_key(tmp_path / "missing")


@pytest.mark.filterwarnings("ignore:.*DSA")  # that cryptography will refuse it, too
def test_a_key_of_a_kind_that_no_server_takes_is_bad_input(tmp_path: Path) -> None:
    key = dsa.generate_private_key(1024)
    (tmp_path / "id").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    )
    with pytest.raises(BadInput, match="of a kind"):
        connect(Login("u", (Endpoint("127.0.0.1", 1),), tmp_path / "id", (KEY,)), Endpoint("127.0.0.1", 1))


def test_a_pinned_key_is_the_only_one(tmp_path: Path) -> None:
    keys = HostKeys((KEY + " a comment",), tmp_path / "never-written")
    keys.require(KEY, "box")
    with pytest.raises(HostKeyChanged):
        keys.require(OTHER, "box")
    assert not (tmp_path / "never-written").exists()


def test_the_first_key_is_recorded_once_and_required_from_then_on(tmp_path: Path) -> None:
    keys = HostKeys(first_use_file=tmp_path / "job" / "host_key")
    keys.require(KEY, "box")
    keys.require(KEY, "box")
    with pytest.raises(HostKeyChanged):
        keys.require(OTHER, "box")
    assert keys.known() == (KEY,)


def test_nothing_pinned_is_nobody_trusted() -> None:
    with pytest.raises(HostKeyChanged):
        HostKeys().require(KEY, "box")


def test_a_damaged_pin_is_not_a_first_use(tmp_path: Path) -> None:
    (tmp_path / "pin").write_text("")
    with pytest.raises(BadInput):
        HostKeys(first_use_file=tmp_path / "pin").require(KEY, "box")


@needs_sshd
def test_a_wrong_host_key_is_refused_before_the_login(box: LocalSshd, tmp_path: Path) -> None:
    stranger = generate_keypair(tmp_path / "stranger").rsplit(" ", 1)[0]
    login = Login(box.login().user, box.login().endpoints, box.client_key, (stranger,))
    before = (box.directory / "sshd.log").read_text().count("Accepted publickey")
    with pytest.raises(HostKeyChanged):
        Dialer(login, SystemClock()).connect_patiently(30.0)
    assert (box.directory / "sshd.log").read_text().count("Accepted publickey") == before


@needs_sshd
def test_a_key_that_the_box_does_not_know_is_unreachable(box: LocalSshd, tmp_path: Path) -> None:
    generate_keypair(tmp_path / "unknown")
    login = Login(box.login().user, box.login().endpoints, tmp_path / "unknown", box.login().host_keys)
    with pytest.raises(HostUnreachable, match="does not let us in"):
        connect(login, login.endpoints[0])


@needs_sshd
def test_first_use_then_required(box: LocalSshd, tmp_path: Path) -> None:
    login = Login(box.login().user, box.login().endpoints, box.client_key, first_use_file=tmp_path / "pin")
    connect(login, login.endpoints[0]).close()
    assert (tmp_path / "pin").read_text().strip() == box.login().host_keys[0]
    (tmp_path / "pin").write_text(OTHER + "\n")
    with pytest.raises(HostKeyChanged):
        connect(login, login.endpoints[0])


def test_a_server_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_S", 0.3)
    generate_keypair(tmp_path / "id")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        login = Login("u", (Endpoint("127.0.0.1", mute.getsockname()[1]),), tmp_path / "id", (KEY,))
        with pytest.raises(HostUnreachable):
            connect(login, login.endpoints[0])


def test_a_server_that_talks_nonsense_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_S", 3.0)
    generate_keypair(tmp_path / "id")
    with socket.create_server(("127.0.0.1", 0)) as odd:

        def talk() -> None:
            client, _ = odd.accept()
            with client:
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 200)

        thread = threading.Thread(target=talk)
        thread.start()
        login = Login("u", (Endpoint("127.0.0.1", odd.getsockname()[1]),), tmp_path / "id", (KEY,))
        with pytest.raises(HostUnreachable):
            connect(login, login.endpoints[0])
        thread.join()


class TurnedClock:
    """A clock that only ``sleep`` moves."""

    def __init__(self) -> None:
        self.time = 0.0
        self.sleeps: list[float] = []

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.time += seconds


def test_reconnecting_waits_longer_each_time_and_ends(tmp_path: Path) -> None:
    generate_keypair(tmp_path / "id")
    clock = TurnedClock()
    login = Login("u", (Endpoint("127.0.0.1", 1),), tmp_path / "id", (KEY,))
    with pytest.raises(HostUnreachable):
        Dialer(login, clock).connect_patiently(60.0)
    assert clock.sleeps[:4] == [0.25, 0.5, 1.0, 2.0]
    assert max(clock.sleeps) <= 15.0
    assert sum(clock.sleeps) <= 60.0


def test_a_provider_that_cannot_be_asked_leaves_the_box_unreachable(tmp_path: Path) -> None:
    generate_keypair(tmp_path / "id")
    clock = TurnedClock()
    asked: list[float] = []

    def offline() -> Login:
        asked.append(clock.time)
        raise ProviderUnavailable("offline too")

    login = Login("u", (Endpoint("127.0.0.1", 1),), tmp_path / "id", (KEY,))
    with pytest.raises(HostUnreachable):
        Dialer(login, clock, offline).connect_patiently(60.0)
    assert len(asked) >= 3
    assert all(later - earlier >= 5.0 for earlier, later in itertools.pairwise(asked))


GOOD = ["a", "a/b.txt", "models/output/final/x.Q8_0.gguf", ".harness/launch.json", "ü/é"]
BAD = [
    "", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", "~/x", "a\nb", "a\x1b[31m", "a\x00", "-rf", "a/-rf",
    "C:/x", "a\\b", "nul", "a/COM1.txt", "a ", "a.", "x" * 2000, "a\u202egnp", "$(reboot)", "`id`", "\udc80", "a?b",
    "lpt².log", "a/aux .c",
]  # fmt: skip


@pytest.mark.parametrize("path", GOOD)
def test_a_plain_name_is_taken(path: str) -> None:
    assert str(safe_relative(path)) == path


@pytest.mark.parametrize("path", BAD)
def test_a_name_that_could_leave_or_deceive_is_refused(path: str) -> None:
    assert problem_of_relative(path) is not None
    with pytest.raises(TransferFailed):
        safe_relative(path)


def matches(path: str) -> tuple[Entry, ...]:
    return (Entry(path, "file", 1, 0.0),)


def tree(path: str) -> Tree:
    return Tree(exists=True, entries=(TreeEntry(path, "file", 1, 0.0),))


def checkpoint(path: str) -> tuple[BoxCheckpoint, ...]:
    return (BoxCheckpoint(path, 1, 0.0, {}, "", (), (), ()),)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (Glob("out/*.gguf"), matches("/etc/passwd")),
        (Glob("out/*.gguf"), matches("outside/x.gguf")),
        (Glob("*.gguf"), matches("/etc/x.gguf")),
        (Glob("out/*.gguf"), matches("out/../../x.gguf")),
        (Glob("out/*.gguf"), matches("out/a\nb.gguf")),
        (Glob("out/*.gguf"), matches("out/\x1b]0;x.gguf")),
        (Glob("out/*.gguf"), matches("out/-rf.gguf")),
        (Glob("out/*.gguf"), matches("out/$(id).gguf")),
        (TreeOf("/root/x"), tree("/etc/passwd")),
        (TreeOf("x"), tree("a/../../b")),
        (CheckpointsIn("models/sft"), checkpoint("elsewhere/checkpoint-1")),
        (CheckpointsIn("models/sft"), checkpoint("models/dpo/checkpoint-1")),
    ],
)
def test_a_path_that_was_not_asked_for_is_found_out(question: Question[Any], answer: object) -> None:
    assert unsafe_paths(question, answer)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (Glob("out/*"), matches("out/a b.gguf")),
        (Glob("/*/x"), matches("/out/x")),
        (Glob("*/x"), matches("out/x")),
        (Glob("~/*"), matches("~/x")),
        (TreeOf("/root/x"), tree("a/b")),
        (CheckpointsIn("~/models/sft/"), checkpoint("~/models/sft/checkpoint-1")),
    ],
)
def test_a_path_that_was_asked_for_is_taken(question: Question[Any], answer: object) -> None:
    assert not unsafe_paths(question, answer)
