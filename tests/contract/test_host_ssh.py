from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.local_sshd import SSHD, LocalSshd
from harness.clock import SystemClock
from harness.ids import Sha256
from harness.ports import Host, Question, RemoteFile
from harness.remote.host import SshHost

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
    answers = host.probe([Question("a", "stat", {"path": "file"}), Question("b", "no_such_operation")])
    seen = answers.get("a").get()
    assert isinstance(seen, dict)
    assert seen["bytes"] == 1
    assert "no_such_operation" in str(answers.get("b").problem)
    assert answers.get("c").problem is not None


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
