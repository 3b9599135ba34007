"""What counts as a word on the box: every program that is sent, and what takes long as far as it gets on."""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.core.ports import Json
from harness.remote.box import answer, heard, ranges
from harness.remote.probe import program

LOOK: Mapping[str, Json] = {"marker": "!", "timeout": 9, "limit": 9000, "questions": []}


def _words(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    said: list[float] = []
    monkeypatch.setattr(heard, "touch", lambda: said.append(time.monotonic()))
    return said


@pytest.mark.skipif(sys.platform == "win32", reason="a box is no Windows machine")
@pytest.mark.parametrize("streamed", [False, True], ids=["a look", "a download"])
@pytest.mark.parametrize("armed", [True, False])
def test_every_program_leaves_a_word_where_a_switch_is_armed(tmp_path: Path, streamed: bool, armed: bool) -> None:
    word = tmp_path / ".harness" / "heard"
    if armed:
        word.parent.mkdir()
        word.touch()
        os.utime(word, (0, 0))
    (tmp_path / "file").write_bytes(b"x")
    if streamed:
        argv, told = program.streamed(program.RANGES, {"path": "file", "nice": 0, "chunk": 0})
        command = [sys.executable, *argv[1:]]
    else:
        command, told = [sys.executable, *program.INTERPRETER[1:]], program.program(program.PROBE, LOOK).encode()
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    subprocess.run(command, input=told, env=environment, capture_output=True, timeout=120, check=True)
    assert word.exists() is armed
    assert not armed or word.stat().st_mtime > 0


def test_a_download_is_a_word_as_far_as_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes no more than the reader does: one that sleeps leaves the next word unsaid."""
    said, taken = _words(monkeypatch), 0

    def sendfile(_out: int, _from: int, _offset: int, count: int) -> int:
        nonlocal taken
        assert len(said) == taken // ranges.SENT_AT_ONCE + 1
        taken += count
        return count

    monkeypatch.setattr(os, "sendfile", sendfile, raising=False)
    ranges.send(0, 0, 16 * ranges.SENT_AT_ONCE)
    assert len(said) == 16


def test_a_digest_is_a_word_at_every_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = _words(monkeypatch)
    (tmp_path / "file").write_bytes(bytes(3 * ranges.BLOCK))
    with (tmp_path / "file").open("rb") as file:
        ranges.digests(file.fileno(), 2 * ranges.BLOCK)
    assert len(said) == 6


def test_an_answer_that_takes_long_is_a_word_until_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    said, enough = list[float](), threading.Event()

    def touch() -> None:
        said.append(0.0)
        if len(said) > 5:
            enough.set()

    monkeypatch.setattr(answer, "WORD_S", 0.01)
    monkeypatch.setattr(heard, "touch", touch)
    monkeypatch.setitem(answer.OPERATIONS, "slow", lambda: enough.wait(120))
    asked = {"timeout": 120, "limit": 9000, "questions": [{"id": "0", "op": "slow", "args": {}}]}
    assert answer.answers(asked) == {"0": {"value": True}}
    never: concurrent.futures.Future[None] = concurrent.futures.Future()
    said.clear()
    assert answer._heard_until(never, time.monotonic() + 0.1) <= answer.WORD_S
    assert said
