"""The system's ssh as the writer of the file: what arrives, what is refused, against boxes that lie."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.local_sshd import SSHD, LocalSshd
from harness.core.errors import HostUnreachable, RemoteChanged, TransferFailed
from harness.core.ids import Sha256
from harness.core.ports import Json, RemoteFile
from harness.remote.probe import program
from harness.remote.ssh.connection import Login
from harness.remote.ssh.keys import generate_keypair
from harness.remote.transfer import openssh
from harness.remote.transfer.openssh import OpensshStream
from harness.remote.transfer.streams import Range

pytestmark = pytest.mark.skipif(SSHD is None or openssh.installed() is None, reason="OpenSSH is not installed")

SIZE = 300_000
MARK = "mark "
REMOTE = RemoteFile("model", SIZE, Sha256("a" * 64))
DATA = bytes(range(250)) * (SIZE // 250)
WHOLE = Range(0, SIZE)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSshd]:
    server = LocalSshd(tmp_path_factory.mktemp("ssh") / "box")
    server.start()
    (server.home / "model").write_bytes(DATA)
    yield server
    server.stop()


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """The unfinished file, all zeros."""
    file = tmp_path / "part"
    file.write_bytes(bytes(SIZE))
    return file


@pytest.fixture
def stream_of(box: LocalSshd, part: Path) -> Iterator[Callable[..., OpensshStream]]:
    """A stream of a shell script on the box, or of the real program."""
    opened: list[OpensshStream] = []

    def make(script: str | None = None, login: Login | None = None) -> OpensshStream:
        request: dict[str, Json] = {"path": "model", "nice": 0, "chunk": 0, "aside": MARK}
        argv, begin = program.streamed(program.RANGES, request)
        command = shlex.join(argv) if script is None else script
        opened.append(
            OpensshStream(
                login or box.login(),
                command,
                begin if script is None else b"",
                mark=MARK,
                remote=REMOTE,
                part=part,
            )
        )
        return opened[-1]

    yield make
    for stream in opened:
        stream.close()


def lie(answer: str, sent: str = "true") -> str:
    """A box that is ready, reads one request, answers and sends."""
    return f"echo '{MARK}ready' >&2; read request; printf '{MARK}{answer}\\n' >&2; {sent}; sleep 30"


def await_byte(part: Path, at: int) -> None:
    """Until ssh has written there what is not zero."""
    deadline = time.monotonic() + 20
    while not any(part.read_bytes()[at : at + 1]):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_ranges_come_to_where_they_belong(stream_of: Callable[..., OpensshStream], part: Path) -> None:
    stream = stream_of()
    first, second = Range(1000, 2000), Range(3000, 100_000)
    came: list[int] = []
    stream.ask(first)
    assert stream.fits(second)
    assert not stream.fits(Range(200_000, 5))
    stream.ask(second)
    identity = stream.receive(first, came.append)
    assert sum(came) == 2000
    assert stream.receive(second, came.append) == identity
    assert sum(came) == 102_000
    stream.settle()
    assert not stream.fits(Range(103_000, 5))
    assert part.read_bytes() == bytes(1000) + DATA[1000:103_000] + bytes(SIZE - 103_000)


@pytest.mark.parametrize("confined", [True, False], ids=["where the system forbids it", "elsewhere"])
@pytest.mark.parametrize("end", [1000, SIZE], ids=["over what follows", "over the end"])
def test_more_than_was_asked_for_is_refused_and_the_file_does_not_grow(
    stream_of: Callable[..., OpensshStream], part: Path, end: int, confined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not confined:
        monkeypatch.setattr(openssh, "_confine", lambda _pid, _size: None)
    elif sys.platform != "linux":
        pytest.skip("only Linux confines a process")
    identity = f"ok {end - 1000} 1000 {SIZE}:1:1"
    stream = stream_of(lie(identity, "cat model model"))
    stream.ask(Range(end - 1000, 1000))
    if end < SIZE or not confined:
        await_byte(part, end + 1)
        with pytest.raises(TransferFailed, match="more of model than it was asked for"):
            stream.settle()
    else:
        with contextlib.suppress(HostUnreachable):  # the kernel kills ssh, perhaps before the answer was read
            stream.receive(Range(end - 1000, 1000), lambda _: None)
        stream.settle()
    stream.close()
    assert len(part.read_bytes()) == SIZE


def test_a_client_that_is_killed_in_the_middle_leaves_no_temporary_file(
    stream_of: Callable[..., OpensshStream], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    stream = stream_of()
    assert len(list((tmp_path / "temporary").iterdir())) == 1
    stream.ask(WHOLE)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_surplus_is_noticed_while_the_box_still_sends(stream_of: Callable[..., OpensshStream]) -> None:
    stream = stream_of(f"echo '{MARK}ready' >&2; read request; head -c 5000 /dev/zero; sleep 30")
    stream.ask(Range(0, 1000))
    with pytest.raises(TransferFailed, match="more of model than it was asked for"):
        stream.receive(Range(0, 1000), lambda _: None)


def test_what_a_login_shell_says_first_touches_no_byte_of_the_file(
    stream_of: Callable[..., OpensshStream], part: Path
) -> None:
    stream = stream_of("echo Welcome to this machine; " + lie(f"ok 0 {SIZE} {SIZE}:1:1", "cat model"))
    with pytest.raises(HostUnreachable):
        stream.ask(WHOLE)
    stream.close()
    assert part.read_bytes() == bytes(SIZE)


@pytest.mark.parametrize(
    ("then", "told"),
    [(lie(f"ok 0 {SIZE} {SIZE}:1:1", "cat model"), "login shell writes"), ("exit 127", "no program starts")],
)
def test_where_the_system_cannot_forbid_it_what_was_added_is_taken_away(
    stream_of: Callable[..., OpensshStream], part: Path, monkeypatch: pytest.MonkeyPatch, then: str, told: str
) -> None:
    monkeypatch.setattr(openssh, "_confine", lambda _pid, _size: None)
    stream = stream_of(f"echo Welcome to this machine; {then}")
    with pytest.raises(HostUnreachable, match=told):
        stream.ask(WHOLE)
    stream.close()
    assert part.read_bytes() == bytes(SIZE)


def test_chatter_on_the_standard_error_is_not_an_answer(stream_of: Callable[..., OpensshStream], part: Path) -> None:
    stream = stream_of(
        "echo 'bash: warning: ready' >&2; head -c 200000 /dev/zero >&2; printf 'no end of line: ' >&2; "
        + lie(f"ok 0 {SIZE} {SIZE}:1:1", "echo ok 1 2 3 >&2; cat model")
    )
    stream.ask(WHOLE)
    assert stream.receive(WHOLE, lambda _: None) == f"{SIZE}:1:1"
    stream.settle()
    assert part.read_bytes() == DATA


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        ("changed", RemoteChanged, "was changed"),
        ("problem no such thing", TransferFailed, "no such thing"),
        ("ok 0 1 300000:1:1", TransferFailed, "answers oddly"),
        ("ok 0 300000 299999:1:1", RemoteChanged, "no longer has"),
        ("nonsense", TransferFailed, "answers oddly"),
    ],
)
def test_an_answer_that_is_not_the_ranges_ends_it(
    stream_of: Callable[..., OpensshStream], answer: str, error: type[Exception], told: str
) -> None:
    stream = stream_of(lie(answer))
    stream.ask(WHOLE)
    with pytest.raises(error, match=told):
        stream.receive(WHOLE, lambda _: None)
    assert not stream.fits(Range(SIZE, 0))


def test_answers_without_end_do_not_fill_the_memory(stream_of: Callable[..., OpensshStream]) -> None:
    stream = stream_of(f"echo '{MARK}ready' >&2; read request; yes '{MARK}ok 0 1000 {SIZE}:1:1' | head -n 100000 >&2")
    stream.ask(Range(0, 1000))
    tracemalloc.start()
    try:
        with pytest.raises(HostUnreachable, match="ended early"):
            stream.receive(Range(0, 1000), lambda _: None)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_file_that_is_not_there_is_told(stream_of: Callable[..., OpensshStream], box: LocalSshd) -> None:
    (box.home / "model").rename(box.home / "elsewhere")
    try:
        with pytest.raises(TransferFailed, match="no such file"):
            stream_of().ask(WHOLE)
    finally:
        (box.home / "elsewhere").rename(box.home / "model")


def test_a_cut_counts_every_byte_that_was_written(stream_of: Callable[..., OpensshStream], part: Path) -> None:
    stream = stream_of(lie(f"ok 0 {SIZE} {SIZE}:1:1", "head -c 123456 model"))
    stream.ask(WHOLE)
    came: list[int] = []

    def cut() -> None:
        await_byte(part, 123_455)
        stream.interrupt()

    thread = threading.Thread(target=cut)
    thread.start()
    with pytest.raises(HostUnreachable, match="ended early"):
        stream.receive(WHOLE, came.append)
    thread.join()
    assert sum(came) == 123_456
    assert part.read_bytes() == DATA[:123_456] + bytes(SIZE - 123_456)


def test_a_wrong_host_key_is_refused(stream_of: Callable[..., OpensshStream], box: LocalSshd, tmp_path: Path) -> None:
    stranger = generate_keypair(tmp_path / "stranger").rsplit(" ", 1)[0]
    before = (box.directory / "sshd.log").read_text().count("Accepted publickey")
    stream = stream_of(None, Login(box.login().user, box.login().endpoints, box.client_key, (stranger,)))
    with pytest.raises(HostUnreachable):
        stream.ask(WHOLE)
    assert (box.directory / "sshd.log").read_text().count("Accepted publickey") == before


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_a_host_key_of_another_kind_is_known_again(
    stream_of: Callable[..., OpensshStream], tmp_path: Path, part: Path, kind: str
) -> None:
    box = LocalSshd(tmp_path / "box")
    box.host_key.unlink()
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(box.host_key)], check=True)
    box.start()
    (box.home / "model").write_bytes(DATA)
    try:
        stream = stream_of(None, box.login())
        stream.ask(WHOLE)
        stream.receive(WHOLE, lambda _: None)
        stream.settle()
    finally:
        box.stop()
    assert part.read_bytes() == DATA


@pytest.mark.parametrize("folder", ["my keys", "100%d", "a'b"])
def test_a_key_lies_wherever_it_likes(
    stream_of: Callable[..., OpensshStream], box: LocalSshd, tmp_path: Path, part: Path, folder: str
) -> None:
    (tmp_path / folder).mkdir()
    key = Path(shutil.copy(box.client_key, tmp_path / folder / "key"))
    stream = stream_of(None, Login(box.login().user, box.login().endpoints, key, box.login().host_keys))
    stream.ask(WHOLE)
    stream.receive(WHOLE, lambda _: None)
    stream.settle()
    assert part.read_bytes() == DATA


def test_without_a_pinned_host_key_it_is_not_begun(stream_of: Callable[..., OpensshStream], box: LocalSshd) -> None:
    with pytest.raises(HostUnreachable, match="no host key"):
        stream_of(None, Login(box.login().user, box.login().endpoints, box.client_key))
