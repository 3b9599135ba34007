"""What arrives on a channel is handed on whole, in order, in large reads, and nobody waits for what does not come."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import paramiko
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paramiko.buffered_pipe import PipeTimeout

from benchmarks.local_sshd import SSHD, LocalSshd
from harness.remote.ssh import channel_buffer, connection
from harness.remote.ssh.channel_buffer import ChannelBuffer
from harness.remote.ssh.pipe import CommandPipe

LONG_S = 60.0
"""Longer than a test may take: who is seen to return did not wait for it."""


def reading(box: ChannelBuffer, pool: ThreadPoolExecutor, limit: int) -> Future[bytes]:
    """A read in another thread, known to wait."""
    read = pool.submit(box.read, limit, LONG_S)
    while box._wanted != limit:
        assert not read.done()
    return read


@given(st.lists(st.binary(min_size=1, max_size=50)), st.lists(st.integers(min_value=1, max_value=120), min_size=1))
def test_every_byte_comes_once_and_in_order(packets: list[bytes], limits: list[int]) -> None:
    box = ChannelBuffer()
    for packet in packets:
        box.feed(packet)
    box.close()
    everything = b"".join(packets)
    at = 0
    while at < len(everything):
        limit = limits[at % len(limits)]
        assert len(box) == len(everything) - at
        data = box.read(limit)
        assert data == everything[at : at + limit]
        at += len(data)
    assert box.read(1) == b""


def test_a_read_is_woken_once_for_all_that_it_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_buffer, "LINGER_S", LONG_S)
    box = ChannelBuffer()
    with ThreadPoolExecutor(1) as pool:
        read = reading(box, pool, channel_buffer.LARGE_READ)
        packets = [bytes([number]) * (channel_buffer.LARGE_READ // 8) for number in range(8)]
        for packet in packets:
            assert not read.done()
            box.feed(packet)
        assert read.result(LONG_S / 2) == b"".join(packets)


def test_a_short_answer_is_handed_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_buffer, "LINGER_S", LONG_S)
    box = ChannelBuffer()
    box.feed(b"answer\n")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(box.read, 1 << 16, LONG_S)
        try:
            assert read.result(LONG_S / 4) == b"answer\n"
        finally:
            box.close()


def test_what_comes_slowly_is_not_kept_until_it_is_much() -> None:
    box = ChannelBuffer()
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(box.read, 1 << 20, LONG_S)
        box.feed(b"a")
        assert read.result(LONG_S) == b"a"


def test_the_last_bytes_do_not_wait_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_buffer, "LINGER_S", LONG_S)
    box = ChannelBuffer()
    with ThreadPoolExecutor(1) as pool:
        read = reading(box, pool, channel_buffer.LARGE_READ)
        box.feed(b"last")
        box.close()
        assert read.result(LONG_S / 2) == b"last"
    assert box.read(100, LONG_S) == b""


def test_nothing_for_too_long_is_a_timeout_and_the_bytes_after_it_are_kept() -> None:
    box = ChannelBuffer()
    with pytest.raises(PipeTimeout):
        box.read(10, 0.01)
    box.feed(b"late")
    assert box.read(10, 0.01) == b"late"


@pytest.mark.parametrize("ended", ["closed", "eof_received"])
def test_a_channel_that_ended_before_it_was_collected_is_at_its_end(ended: str) -> None:
    channel = paramiko.Channel(1)
    setattr(channel, ended, True)
    channel_buffer.attach(channel)
    channel.settimeout(0.01)
    assert channel.recv(10) == b""


@pytest.fixture
def pipes(tmp_path: Path) -> Iterator[Callable[[str], CommandPipe]]:
    """Commands on a real box; a read of their output lingers for longer than a test may take."""
    if SSHD is None:
        pytest.skip("sshd is not installed")
    box = LocalSshd(tmp_path)
    box.start()
    login = box.login()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(channel_buffer, "LINGER_S", LONG_S)
        yield lambda command: CommandPipe(connection.connect(login, login.endpoints[0]), command, silence=LONG_S)
    box.stop()


def test_a_command_on_a_real_box_is_read_in_the_sizes_that_are_asked_for(
    pipes: Callable[[str], CommandPipe],
) -> None:
    with contextlib.closing(pipes("head -c 20000000 /dev/zero")) as pipe:
        sizes = [len(pipe.read(1 << 20)) for _ in range(21)]
    assert sizes == [1 << 20] * 19 + [20_000_000 - (19 << 20), 0]


def test_who_waits_for_a_real_box_hears_of_the_connection_s_end(pipes: Callable[[str], CommandPipe]) -> None:
    pipe = pipes("printf some; exec sleep 600")
    with ThreadPoolExecutor(1) as pool:
        assert pipe.read(4) == b"some"
        read = pool.submit(pipe.read, 100)
        pipe.close()
        assert read.result(LONG_S / 2) == b""
