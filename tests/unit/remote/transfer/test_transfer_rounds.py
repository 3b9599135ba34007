"""A download against a box in memory: what is fetched, fetched again, believed, and kept when it fails."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.core.clock import SystemClock
from harness.core.errors import BadInput, HostUnreachable, RemoteChanged, TransferFailed
from harness.core.ids import Sha256
from harness.core.ports import Progress, RemoteFile
from harness.remote.transfer import download
from harness.remote.transfer.attempt import Cancelled, RemoteDigests
from harness.remote.transfer.journal import Journal
from harness.remote.transfer.streams import Range, RangeStream

MIB = 1 << 20
DATA = random.Random(1).randbytes(3 * MIB - 5)
SPANS = [(0, MIB), (MIB, MIB), (2 * MIB, MIB - 5)]


def _sha256(data: bytes) -> Sha256:
    return Sha256(hashlib.sha256(data).hexdigest())


REMOTE = RemoteFile("final/model.gguf", len(DATA), _sha256(DATA))


class _Box:
    """A box that has one file. ``serves`` bends the bytes of a range, ``says`` is the identity that each names."""

    def __init__(self, data: bytes = DATA) -> None:
        self.data = data
        self.serves: Callable[[int, bytes], bytes] = lambda _, data: data
        self.says: Iterator[str] = iter(["one"] * 99)
        self.asked: list[tuple[int, int]] = []
        self.told: RemoteDigests | None = None
        self.hashed = 0
        self.stream: Callable[[_Box, Path], RangeStream] = _Stream

    def connections(self, size: int) -> int:
        assert size == len(DATA)
        return 1

    def open(self, remote: RemoteFile, part: Path, give_up: Callable[[], bool]) -> RangeStream:
        del remote, give_up
        return self.stream(self, part)

    def digests(self, remote: RemoteFile, chunk: int) -> RemoteDigests:
        del remote
        self.hashed += 1
        chunks = tuple(_sha256(self.data[at : at + chunk]) for at in range(0, len(self.data), chunk))
        return self.told or RemoteDigests(_sha256(self.data), chunks)


class _Stream(RangeStream):
    """A stream from that box."""

    def __init__(self, box: _Box, part: Path) -> None:
        self._box = box
        self._file = part.open("r+b", buffering=0)

    def ask(self, wanted: Range) -> None:
        self._box.asked.append((wanted.offset, wanted.length))

    def receive(self, wanted: Range, arrived: Callable[[int], None]) -> str:
        self._file.seek(wanted.offset)
        end = wanted.offset + wanted.length
        arrived(self._file.write(self._box.serves(wanted.offset, self._box.data[wanted.offset : end])))
        return next(self._box.says)

    def interrupt(self) -> None:
        """Nothing waits for it."""

    def close(self) -> None:
        self._file.close()


def _fetch(box: _Box, local: Path, remote: RemoteFile = REMOTE) -> None:
    download.fetch(remote, local, box, SystemClock())


@pytest.fixture
def local(tmp_path: Path) -> Path:
    return tmp_path / "home" / "model.gguf"


def _is_home(local: Path) -> bool:
    """The file is here, cannot be written to, and nothing else is."""
    return local.read_bytes() == DATA and not local.stat().st_mode & 0o222 and len(list(local.parent.iterdir())) == 1


def test_every_chunk_is_fetched_once(local: Path) -> None:
    box, told = _Box(), list[Progress]()
    download.fetch(REMOTE, local, box, SystemClock(), on_progress=told.append)
    assert _is_home(local)
    assert sorted(box.asked) == SPANS
    assert (box.hashed, told[-1]) == (0, Progress(len(DATA), len(DATA)))


def test_a_file_that_is_here_is_not_asked_for_and_what_its_download_left_goes(local: Path) -> None:
    """Killed between the name and the end of it."""
    local.parent.mkdir()
    Journal(REMOTE, local).open()
    local.write_bytes(DATA)
    _fetch(box := _Box(), local)
    assert _is_home(local)
    assert box.asked == []


@pytest.mark.parametrize("there", [DATA[:-1] + b"x", DATA[:-1], DATA + b"x", b""], ids=["bit", "short", "long", "none"])
def test_another_file_of_that_name_is_none_of_it(local: Path, there: bytes) -> None:
    local.parent.mkdir()
    local.write_bytes(there)
    _fetch(box := _Box(), local)
    assert _is_home(local)
    assert sorted(box.asked) == SPANS


@pytest.mark.parametrize("noted", [[0], [1], [0, 2], [0, 1, 2]])
def test_what_is_noted_as_here_is_not_fetched_again_and_counts(local: Path, noted: list[int]) -> None:
    """With all of it, too: killed before the file got its name."""
    local.parent.mkdir()
    journal = Journal(REMOTE, local)
    journal.open()
    spans = [SPANS[index] for index in noted]
    with journal.part.open("r+b") as file:
        for offset, length in spans:
            file.seek(offset)
            file.write(DATA[offset : offset + length])
    journal.commit(noted)
    box, told = _Box(), list[Progress]()
    download.fetch(REMOTE, local, box, SystemClock(), on_progress=told.append)
    assert _is_home(local)
    assert sorted(box.asked) == sorted(set(SPANS) - set(spans))
    assert told[0] == Progress(sum(length for _, length in spans), len(DATA))


@pytest.mark.parametrize("bad", [[0], [1], [2], [0, 2], [0, 1, 2]])
def test_chunks_that_arrive_wrong_are_fetched_again_and_no_others(local: Path, bad: list[int]) -> None:
    left = {SPANS[index][0] for index in bad}

    def once(offset: int, data: bytes) -> bytes:
        if offset not in left:
            return data
        left.discard(offset)
        return data[:-1] + bytes([data[-1] ^ 1])

    box = _Box()
    box.serves = once
    _fetch(box, local)
    assert _is_home(local)
    assert sorted(box.asked) == sorted(SPANS + [SPANS[index] for index in bad])
    assert box.hashed == 1


def test_a_file_that_arrives_wrong_each_time_is_given_up(local: Path) -> None:
    box = _Box()
    box.serves = lambda offset, data: data[:-1] + bytes([data[-1] ^ (offset == MIB)])
    with pytest.raises(TransferFailed, match="does not arrive as recorded in 4 attempts"):
        _fetch(box, local)
    assert box.asked.count(SPANS[1]) == 4
    assert not local.exists()


@pytest.mark.parametrize(("touched", "comes"), [(1, True), (3, True), (4, False)])
def test_a_file_that_is_touched_while_it_comes_is_gone_on_with(local: Path, touched: int, comes: bool) -> None:
    left = [None] * touched

    def touch(_: int, data: bytes) -> bytes:
        if left:
            left.pop()
            raise RemoteChanged("touched")
        return data

    box = _Box()
    box.serves = touch
    if comes:
        _fetch(box, local)
        assert _is_home(local)
    else:
        with pytest.raises(TransferFailed, match="does not arrive as recorded"):
            _fetch(box, local)
    assert box.hashed == touched


def test_chunks_of_two_states_of_a_file_are_not_mixed(local: Path) -> None:
    box = _Box()
    box.says = iter(["one", "two", *["three"] * 9])
    _fetch(box, local)
    assert _is_home(local)
    assert (box.hashed, len(box.asked)) == (1, 5)


@pytest.mark.parametrize("what", ["the whole", "a chunk more", "a chunk less"])
def test_of_a_file_that_is_another_now_nothing_is_kept(local: Path, what: str) -> None:
    box = _Box()
    chunks = box.digests(REMOTE, MIB).chunks
    box.told = {
        "the whole": RemoteDigests(Sha256("0" * 64), chunks),
        "a chunk more": RemoteDigests(REMOTE.sha256, (*chunks, chunks[0])),
        "a chunk less": RemoteDigests(REMOTE.sha256, chunks[1:]),
    }[what]
    box.serves = lambda _, data: bytes(len(data))
    with pytest.raises(RemoteChanged, match=f"recorded was {REMOTE.sha256}"):
        _fetch(box, local)
    assert list(local.parent.iterdir()) == []


def test_a_box_that_contradicts_itself_is_not_asked_again(local: Path) -> None:
    box = _Box(bytes(len(DATA)))
    box.told = RemoteDigests(REMOTE.sha256, box.digests(REMOTE, MIB).chunks)
    with pytest.raises(TransferFailed, match="contradicts itself") as told:
        _fetch(box, local)
    assert "Do not trust this box's digests" in str(told.value.remedy)
    assert len(box.asked) == 3
    assert not local.exists()


def test_what_killed_downloads_left_beside_it_goes(local: Path) -> None:
    local.parent.mkdir()
    temporary = ".model.gguf.part.journal.0a1b2c3d.part"
    for name in ("model.gguf.part", "model.gguf.part.journal", "model.gguf.part.lock", temporary):
        (local.parent / name).write_text("old")
    local.write_bytes(DATA)
    _fetch(_Box(), local)
    assert _is_home(local)


def test_a_file_without_a_byte_comes_home(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs of a training may be empty; nothing is asked of the box for them."""
    box = _Box(b"")
    monkeypatch.setattr(box, "connections", pytest.fail)
    _fetch(box, local, RemoteFile("final/empty.txt", 0, _sha256(b"")))
    assert local.read_bytes() == b""
    assert (box.asked, [path.name for path in local.parent.iterdir()]) == ([], [local.name])


def test_a_name_that_could_deceive_is_refused_before_anything_is_done(local: Path) -> None:
    with pytest.raises(BadInput):
        _fetch(_Box(), local, RemoteFile("final/a\nb", len(DATA), REMOTE.sha256))
    assert not local.parent.exists()


def test_a_place_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    remote = RemoteFile("a", (tmp_path / "folder").stat().st_size, REMOTE.sha256)
    with pytest.raises(TransferFailed, match="folder cannot be read: Is a directory"):
        download.is_whole(tmp_path / "folder", remote)
    assert download.is_whole(tmp_path / "none", remote) is False


def test_a_transfer_that_is_called_off_keeps_what_came(local: Path) -> None:
    box = _Box()
    with pytest.raises(Cancelled, match=r"final/model\.gguf was cancelled"):
        download.fetch(REMOTE, local, box, SystemClock(), cancelled=lambda: True)
    assert Journal(REMOTE, local).part.stat().st_size == len(DATA)
    _fetch(box, local)
    assert _is_home(local)


def test_a_box_that_is_lost_says_so_and_keeps_what_came(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> RangeStream:
        raise HostUnreachable("no route to host")

    box = _Box()
    with monkeypatch.context() as patch:
        patch.setattr(box, "open", gone)
        with pytest.raises(HostUnreachable, match="no route to host"):
            _fetch(box, local)
    assert Journal(REMOTE, local).part.exists()
    _fetch(box, local)
    assert _is_home(local)


def test_what_is_fetched_is_told_when_nothing_writes_to_it_any_more(local: Path) -> None:
    """A stream that ends only when it is interrupted has ended, and closed the file."""
    box, interrupted, closed = _Box(), threading.Event(), list[bool]()

    class Lingering(_Stream):
        def interrupt(self) -> None:
            interrupted.set()

        def close(self) -> None:
            interrupted.wait(5.0)
            super().close()
            closed.append(interrupted.is_set())

    box.stream = Lingering
    _fetch(box, local)
    assert closed == [True]
