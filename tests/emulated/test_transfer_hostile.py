"""A box that answers what it likes: without end, without sense; the operator's side stays small and says so."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.local_sshd import SSHD, LocalSshd
from harness.clock import SystemClock
from harness.errors import HarnessError
from harness.ids import Sha256
from harness.ports import Question, RemoteFile
from harness.remote.host import SshHost
from tests.support.memory import peak_memory

pytestmark = pytest.mark.skipif(SSHD is None or sys.platform != "linux", reason="needs sshd, and Linux's memory")

GIGABYTE = "import sys\nblock = b'[\"' + b'x' * (1 << 20)\nfor _ in range(1000):\n    sys.stdout.buffer.write(block)\n"
ROOM = 96 << 20
"""Bytes that this process may grow by: far less than was sent."""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SshHost]:
    """A box whose python3 answers everything with a gigabyte of JSON that never ends."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "liar.py").write_text(GIGABYTE)
    python3 = tools / "python3"
    python3.write_text(f"#!/bin/sh\nexec {sys.executable} {tools / 'liar.py'}\n")
    python3.chmod(0o755)
    for tool in ("sh", "env"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    box = LocalSshd(tmp_path / "box", {"PATH": str(tools)})
    box.start()
    made = SshHost(box.login(), SystemClock(), patience=5.0)
    yield made
    made.close()
    box.stop()


def _refused(ask: Callable[[], object], told: str) -> None:
    before = peak_memory()
    with pytest.raises(HarnessError, match=told):
        ask()
    assert peak_memory() - before < ROOM


def test_a_look_ends_at_its_limit(host: SshHost) -> None:
    before = peak_memory()
    answer = host.probe([Question("a", "stat", {"path": "x"})]).get("a")
    assert answer.problem is not None
    assert "no answer" in answer.problem
    assert peak_memory() - before < ROOM


def test_a_download_of_nonsense_is_refused(host: SshHost, tmp_path: Path) -> None:
    remote = RemoteFile("model.gguf", 64 << 20, Sha256("ab" * 32))
    _refused(lambda: host.fetch(remote, tmp_path / "home" / "model.gguf"), "model.gguf|answers")
    assert not (tmp_path / "home" / "model.gguf").exists()


def test_an_upload_that_is_answered_with_nonsense_is_refused(host: SshHost, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    _refused(lambda: host.send(tmp_path / "package", "package", {}), "more than it may")


def test_a_mirror_of_nonsense_leaves_nothing(host: SshHost, tmp_path: Path) -> None:
    _refused(lambda: host.mirror({"a": "a"}, tmp_path / "mirror" / "checkpoint-1"), "cannot be recorded")
    assert not (tmp_path / "mirror" / "checkpoint-1").exists()
