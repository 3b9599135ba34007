"""One stream of ranges: where its bytes are written, and what is refused of a box that answers oddly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import HarnessError, HostUnreachable, RemoteChanged, TransferFailed
from harness.core.ids import Sha256
from harness.core.ports import RemoteFile
from harness.remote.ssh.pipe import CommandPipe
from harness.remote.transfer.streams import Range, RangeStream

REMOTE = RemoteFile("models/model.gguf", 10, Sha256("a" * 64))


class Pipe(CommandPipe):
    """A box that has said everything that it will say, and gives it out a few bytes at a time."""

    def __init__(self, header: bytes = b"", data: bytes = b"") -> None:
        self.header, self.data, self.asked, self.closed = header, data, b"", False

    def write(self, data: bytes) -> None:
        self.asked += data

    def read_line(self, limit: int) -> bytes:
        return self.header[:limit]

    def read(self, size: int) -> bytes:
        piece, self.data = self.data[: min(size, 3)], self.data[min(size, 3) :]
        return piece

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def part(tmp_path: Path) -> Path:
    path = tmp_path / "model.part"
    path.write_bytes(b"." * REMOTE.size)
    return path


def test_a_range_is_written_where_it_belongs_and_names_its_file(part: Path) -> None:
    pipe = Pipe(b"ok 2 5 10:77:1.5\n", b"abcdeZZ")
    stream, counts = RangeStream(pipe, REMOTE, part), list[int]()
    stream.ask(Range(2, 5))
    assert pipe.asked == b"2 5\n"
    assert stream.receive(Range(2, 5), counts.append) == "10:77:1.5"
    assert counts == [3, 2]
    assert part.read_bytes() == b"..abcde..."
    stream.close()
    assert pipe.closed


def test_a_stream_that_ends_early_keeps_what_came(part: Path) -> None:
    stream, counts = RangeStream(Pipe(b"ok 0 9 10:77\n", b"abcd"), REMOTE, part), list[int]()
    with pytest.raises(HostUnreachable, match="ended early"):
        stream.receive(Range(0, 9), counts.append)
    assert sum(counts) == 4
    assert part.read_bytes() == b"abcd......"
    stream.close()


@pytest.mark.parametrize(
    ("header", "error", "words"),
    [
        (b"changed\n", RemoteChanged, "was changed on the box"),
        (b"problem permission denied\n", TransferFailed, "cannot read .*permission denied"),
        (b"ok 1 5 10:77\n", TransferFailed, "answers oddly"),
        (b"ok 0 6 10:77\n", TransferFailed, "answers oddly"),
        (b"no 0 5 10:77\n", TransferFailed, "answers oddly"),
        (b"ok 0 5\n", TransferFailed, "answers oddly"),
        (b"ok 0 5 10:77 more\n", TransferFailed, "answers oddly"),
        (b"", TransferFailed, "answers oddly"),
        (b"ok 0 5 11:77\n", RemoteChanged, "no longer has the 10 bytes"),
        (b"ok 0 5 77:10\n", RemoteChanged, "no longer has the 10 bytes"),
    ],
)
def test_of_an_odd_answer_nothing_is_written(header: bytes, error: type[HarnessError], words: str, part: Path) -> None:
    stream = RangeStream(Pipe(header, b"abcde"), REMOTE, part)
    with pytest.raises(error, match=words):
        stream.receive(Range(0, 5), lambda _: None)
    assert part.read_bytes() == b"." * REMOTE.size
    stream.close()


def test_a_stream_without_its_local_file_leaves_no_pipe_open(tmp_path: Path) -> None:
    pipe = Pipe()
    with pytest.raises(TransferFailed):
        RangeStream(pipe, REMOTE, tmp_path / "none")
    assert pipe.closed


@pytest.mark.parametrize("end", [RangeStream.interrupt, RangeStream.close])
def test_a_stream_that_is_cut_or_closed_leaves_no_pipe_open(part: Path, end: Callable[[RangeStream], None]) -> None:
    pipe = Pipe()
    stream = RangeStream(pipe, REMOTE, part)
    end(stream)
    assert pipe.closed
    stream.close()
    with pytest.raises(ValueError, match="closed file"):
        stream._file.tell()
