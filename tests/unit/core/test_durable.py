"""Files that survive: in what order the disk is asked, and what a crash in between leaves."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.core import durable, regular_file
from tests.support.windows import behave_like_windows


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    made: list[str] = []
    replace, flush, flush_directory = os.replace, durable.flush, durable.flush_directory

    def noted_replace(source: Path, target: Path) -> None:
        made.append("rename")
        replace(source, target)

    def noted_flush(descriptor: int) -> None:
        made.append(f"flush of {os.fstat(descriptor).st_size}")
        flush(descriptor)

    def noted_directory(directory: Path) -> None:
        made.append("flush directory")
        flush_directory(directory)

    monkeypatch.setattr(os, "replace", noted_replace)
    monkeypatch.setattr(durable, "flush", noted_flush)
    monkeypatch.setattr(durable, "flush_directory", noted_directory)
    return made


def _open_files() -> list[Path]:
    return sorted(Path("/dev/fd").iterdir())


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, calls: list[str]) -> None:
    durable.write(tmp_path / "x", b"data")
    assert calls == ["flush of 4", "rename", "flush directory"]
    assert (tmp_path / "x").read_bytes() == b"data"


@pytest.mark.parametrize("links", [True, False], ids=["by a hard link", "without hard links"])
def test_a_new_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    link = os.link

    def linked(source: Path, target: Path) -> None:
        if not links:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        calls.append("link")
        link(source, target)

    monkeypatch.setattr(os, "link", linked)
    assert durable.create(tmp_path / "x", b"data") is True
    named = ["link"] if links else ["flush of 4", "rename", "flush directory"]
    assert calls == ["flush of 4", *named, "flush directory"]
    assert durable.create(tmp_path / "x", b"other") is False
    assert (tmp_path / "x").read_bytes() == b"data"


def test_an_appended_line_is_on_the_disk(tmp_path: Path, calls: list[str]) -> None:
    durable.append(tmp_path / "log", b"one\n")
    assert calls == ["flush of 4", "flush directory"]
    durable.append(tmp_path / "log", b"two\n")
    assert calls == ["flush of 4", "flush directory", "flush of 8"]
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    durable.write(tmp_path / "x", b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "flush", fail)
    with pytest.raises(OSError, match="No space"):
        durable.write(tmp_path / "x", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"old"


def test_of_two_creators_one_wins_and_nothing_is_left(tmp_path: Path) -> None:
    won: list[bytes] = []

    def create(data: bytes) -> None:
        if durable.create(tmp_path / "x", data):
            won.append(data)

    threads = [threading.Thread(target=create, args=(bytes([n]) * 100,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert (tmp_path / "x").read_bytes() == won[0]
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
def test_a_private_file_is_never_readable_by_others(tmp_path: Path) -> None:
    durable.write(tmp_path / "key", b"secret", mode=0o600)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
def test_a_file_that_is_not_private_is_as_the_umask_allows(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    usual = (tmp_path / "plain").stat().st_mode
    before = os.umask(0)
    try:
        (tmp_path / "open").touch()
        durable.write(tmp_path / "written", b"")
        durable.create(tmp_path / "created", b"")
        with regular_file.opened(tmp_path / "plain") as source:
            durable.copy(source, tmp_path / "copied")
    finally:
        os.umask(before)
    durable.write(tmp_path / "usual", b"")
    modes = {path.name: path.stat().st_mode for path in tmp_path.iterdir()}
    assert {modes[name] for name in ("written", "created", "copied")} == {modes["open"]}
    assert modes["usual"] == usual


def test_read_only_files_are_replaced_and_removed_where_windows_refuses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "training.log"
    file.write_bytes(b"older")
    file.chmod(0o444)
    behave_like_windows(monkeypatch)
    with pytest.raises(PermissionError):
        file.unlink()
    durable.write(file, b"newer")
    assert file.read_bytes() == b"newer"
    file.chmod(0o444)
    durable.remove(file)
    durable.remove(file)
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_writer_left_goes_on_windows_too_where_it_may_be_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / ".x.0123abcd.part"
    left.write_bytes(b"secret")
    left.chmod(0o444)
    behave_like_windows(monkeypatch)
    durable.write(tmp_path / "y", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["y"]


KILLED = """
import os, signal, sys
from pathlib import Path
from harness.core import durable, regular_file
durable.flush = lambda _: os.kill(os.getpid(), signal.SIGKILL)
durable.{call}(Path(sys.argv[1]), b"secret", mode=0o600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="processes are killed by POSIX signals")
@pytest.mark.parametrize("call", ["write", "create"])
def test_what_a_killed_writer_leaves_goes_with_the_next_write_of_anything_beside_it(tmp_path: Path, call: str) -> None:
    program = KILLED.format(call=call)
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "key")], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.read_bytes() == b"secret"
    assert left.stat().st_mode & 0o777 == 0o600
    durable.write(tmp_path / "other", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks whatever is open")
def test_what_a_living_writer_holds_stays_and_so_does_what_is_not_ours(tmp_path: Path) -> None:
    import fcntl

    held = tmp_path / ".x.0123abcd.part"
    others = [tmp_path / name for name in (".x.part", "x.0123abcd.part", ".x.0123ABCD.part", ".x.0123abcd.part.bak")]
    for path in (held, *others):
        path.write_bytes(b"1")
    with held.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        durable.write(tmp_path / "y", b"")
        assert held.exists()
    durable.write(tmp_path / "y", b"")
    assert not held.exists()
    assert all(path.exists() for path in others)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX locks")
def test_a_file_is_its_writers_until_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def swept_before(source: Path, target: Path) -> None:
        durable.sweep(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", swept_before)
    durable.write(tmp_path / "x", b"data")
    assert (tmp_path / "x").read_bytes() == b"data"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX locks")
@pytest.mark.parametrize("gone", [True, False], ids=["deleted", "locked"])
def test_a_file_that_is_swept_before_its_writer_could_lock_it_is_made_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    import fcntl

    flock = fcntl.flock
    swept: list[Path] = []

    def lost_at_first(descriptor: int, operation: int) -> None:
        if not swept:
            (path,) = tmp_path.iterdir()
            swept.append(path)
            path.unlink()
            if not gone:
                raise BlockingIOError(errno.EAGAIN, "locked")
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", lost_at_first)
    before = _open_files()
    durable.write(tmp_path / "x", b"data")
    assert _open_files() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"data"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX locks")
def test_a_name_that_is_another_files_by_now_is_not_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    flock = fcntl.flock
    left = tmp_path / ".x.0123abcd.part"
    left.write_bytes(b"of one that died")

    def named_anew(descriptor: int, operation: int) -> None:
        if left.read_bytes() == b"of one that died":
            left.rename(tmp_path / "elsewhere")
            left.write_bytes(b"of one that lives")
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", named_anew)
    durable.write(tmp_path / "y", b"")
    assert left.read_bytes() == b"of one that lives"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX descriptors")
def test_writing_and_sweeping_leave_no_file_open(tmp_path: Path) -> None:
    (tmp_path / ".x.0123abcd.part").touch()
    before = _open_files()
    durable.write(tmp_path / "y", b"")
    durable.create(tmp_path / "y", b"")
    durable.flush_directory(tmp_path)
    assert _open_files() == before


def test_a_link_of_such_a_name_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"1")
    (tmp_path / ".x.0123abcd.part").symlink_to(tmp_path / "mine")
    durable.write(tmp_path / "y", b"")
    assert (tmp_path / "mine").exists()


def test_a_copy_has_all_the_bytes_and_none_of_the_old(tmp_path: Path, calls: list[str]) -> None:
    (tmp_path / "x").write_bytes(b"new" * 5000)
    (tmp_path / "y").write_bytes(b"old" * 9000)
    with regular_file.opened(tmp_path / "x") as source:
        source.seek(7)
        durable.copy(source, tmp_path / "y")
    assert (tmp_path / "y").read_bytes() == b"new" * 5000
    assert calls == ["flush of 15000", "rename", "flush directory"]


UNFINISHED = [
    "model[1].gguf.part",
    "model[1].gguf.part.journal",
    "model[1].gguf.part.lock",
    ".model[1].gguf.0123abcd.part",
    ".model[1].gguf.part.journal.0123abcd.part",
]
OTHERS = [
    "my-model[1].gguf.part",
    "model[1].gguf.partial",
    "model1.gguf.part",
    ".my-model[1].gguf.0123abcd.part",
    "model[1].gguf.part.journal.bak",
]


def test_what_belongs_to_an_unfinished_file_is_told_by_its_whole_name(tmp_path: Path) -> None:
    for name in (*UNFINISHED, *OTHERS):
        (tmp_path / name).touch()
    final = tmp_path / "model[1].gguf"
    assert sorted(path.name for path in durable.unfinished(final)) == sorted(UNFINISHED)
    durable.sweep(final)
    assert durable.unfinished(final) == ()
    assert {path.name for path in tmp_path.iterdir()} == set(OTHERS) - {".my-model[1].gguf.0123abcd.part"}


def test_what_another_process_is_writing_is_not_swept(tmp_path: Path) -> None:
    (tmp_path / "model.part").touch()
    (tmp_path / "model.part.journal").touch()
    with durable.sole_writer(tmp_path / "model") as alone:
        assert alone
        durable.sweep(tmp_path / "model")
        assert {path.name for path in tmp_path.iterdir()} == {"model.part", "model.part.journal", "model.part.lock"}
    durable.sweep(tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks whatever is open")
def test_what_a_living_writer_holds_of_a_journal_is_not_swept(tmp_path: Path) -> None:
    import fcntl

    held = tmp_path / ".model.part.journal.0123abcd.part"
    held.touch()
    (tmp_path / "model.part").touch()
    with held.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        durable.sweep(tmp_path / "model")
        assert list(tmp_path.iterdir()) == [held]


def test_where_nothing_is_left_nothing_is_touched(tmp_path: Path) -> None:
    """A finished file may lie on a disk that cannot be written."""
    (tmp_path / "model").touch()
    tmp_path.chmod(0o500)
    durable.sweep(tmp_path / "model")
    tmp_path.chmod(0o700)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes among its files")
def test_what_is_no_file_of_bytes_hangs_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as bound, contextlib.chdir(tmp_path):
        bound.bind("socket")
    for name in ("pipe", "socket", "."):
        with pytest.raises(OSError, match=r"holds bytes|No such device"):
            regular_file.opened(tmp_path / name)
    with pytest.raises(OSError, match="holds bytes"):
        regular_file.opened(Path("/dev/zero"))
    with pytest.raises(FileNotFoundError):
        regular_file.opened(tmp_path / "nothing")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX locks")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_written_to_and_nothing_there_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A network file system may be mounted so (Lustre without flock, NFS without its lock daemon)."""
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    other = tmp_path / ".model.0123abcd.part"
    other.write_bytes(b"its writer may live")
    monkeypatch.setattr(fcntl, "flock", refuse)
    durable.write(tmp_path / "state", b"1")
    assert durable.create(tmp_path / "key", b"2")
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "key", "state"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX locks")
def test_a_lock_that_fails_otherwise_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "the disk")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="the disk"):
        durable.write(tmp_path / "state", b"1")


@pytest.mark.parametrize(
    ("platform", "full", "calls"),
    [
        ("linux", None, ["fdatasync"]),
        ("darwin", None, ["F_FULLFSYNC"]),
        ("darwin", OSError(errno.ENOTSUP, "not here"), ["F_FULLFSYNC", "fsync"]),
        ("freebsd14", None, ["fsync"]),
    ],
    ids=["Linux", "macOS", "macOS on a file system without it", "elsewhere"],
)
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX calls")
def test_the_disk_is_waited_for_as_the_system_has_it(
    monkeypatch: pytest.MonkeyPatch, platform: str, full: OSError | None, calls: list[str]
) -> None:
    import fcntl

    made: list[str] = []

    def fully(descriptor: int, command: str) -> None:
        assert descriptor == 7
        made.append(command)
        if full:
            raise full

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", "F_FULLFSYNC", raising=False)
    monkeypatch.setattr(fcntl, "fcntl", fully)
    for name in ("fdatasync", "fsync"):
        monkeypatch.setattr(os, name, lambda descriptor, name=name: made.append(name) if descriptor == 7 else None)
    durable.flush(7)
    assert made == calls


def test_why_nothing_can_be_written_to_a_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    closed = tmp_path / "closed"
    closed.mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed and access(path, mode))
    assert durable.refusal(tmp_path) is None
    assert durable.refusal(tmp_path / "new" / "newer") is None
    for folder in (tmp_path / "file", tmp_path / "file" / "new" / "newer"):
        assert durable.refusal(folder) == f"nothing can be written to {tmp_path / 'file'}: it is no folder"
    for folder in (closed, closed / "new" / "newer"):
        assert durable.refusal(folder) == f"nothing can be written to {closed}: it is read-only"


def test_a_directory_is_flushed_where_its_entries_are_not_journaled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino))
    durable.flush_directory(tmp_path)
    assert flushed == ([] if sys.platform == "win32" else [tmp_path.stat().st_ino])


def test_a_lock_whose_file_cannot_be_deleted_is_given_up_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import filelock

    locks = []

    class Kept(filelock.FileLock):  # the lock of one that is forgotten is given up by the interpreter
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
            locks.append(self)

    monkeypatch.setattr(filelock, "FileLock", Kept)
    final = tmp_path / "model.gguf"

    def refuse(path: Path, *, missing_ok: bool = False) -> None:
        raise OSError(errno.EIO, "the disk", str(path), missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        with pytest.raises(OSError, match="the disk"), durable.sole_writer(final):
            pass
    durable.sweep(final)
    assert durable.unfinished(final) == ()
