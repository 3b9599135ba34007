"""Packages to a real box: only what differs, over cuts, nothing stale, nothing half."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.delay_proxy import Proxy
from benchmarks.local_sshd import SSHD, LocalSshd
from harness.core.clock import SystemClock
from harness.core.errors import BadInput, HostUnreachable, TransferFailed
from harness.core.ids import Sha256
from harness.core.observed import Observed
from harness.core.ports import Json, Progress
from harness.core.questions import Answers
from harness.remote.box import receive
from harness.remote.box.files import sha256
from harness.remote.host import SshHost
from harness.remote.probe import probe
from harness.remote.session import TrainingSession
from harness.remote.ssh.connection import connect
from harness.remote.ssh.pipe import CommandPipe
from harness.remote.transfer import upload
from harness.remote.transfer.attempt import TransferLimits
from harness.remote.transfer.upload import ATTEMPTS

pytestmark = pytest.mark.skipif(SSHD is None, reason="sshd is not installed")
MIB = 1 << 20


@pytest.fixture
def box(tmp_path: Path) -> Iterator[LocalSshd]:
    server = LocalSshd(tmp_path / "box")
    server.start()
    yield server
    server.stop()


def package(tmp_path: Path, contents: dict[str, bytes]) -> tuple[Path, dict[str, Sha256]]:
    source = tmp_path / "source"
    for name, data in contents.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    return source, {name: Sha256(hashlib.sha256(data).hexdigest()) for name, data in contents.items()}


def held(box: LocalSshd) -> dict[str, bytes]:
    root = box.home / "package"
    found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if not name.startswith(".harness/")}


def test_only_what_differs_is_sent(box: LocalSshd, tmp_path: Path) -> None:
    contents = {"data/rows.jsonl": random.Random(1).randbytes(8 * MIB), "train.py": b"print()\n", "empty": b""}
    source, files = package(tmp_path, contents)
    host = SshHost(box.login(), SystemClock(), patience=5.0)
    first: list[Progress] = []
    host.send(source, "package", files, first.append)
    assert held(box) == contents
    assert (first[-1].done, first[-1].total) == (8 * MIB + 8, 8 * MIB + 8)
    before = (box.home / "package" / "data" / "rows.jsonl").stat().st_ino
    (source / "train.py").write_bytes(b"print(1)\n")
    files["train.py"] = Sha256(hashlib.sha256(b"print(1)\n").hexdigest())
    host.send(source, "package", files)
    host.close()
    assert held(box)["train.py"] == b"print(1)\n"
    assert (box.home / "package" / "data" / "rows.jsonl").stat().st_ino == before


def test_strays_are_moved_aside_and_not_lost(box: LocalSshd, tmp_path: Path) -> None:
    source, files = package(tmp_path, {"train.py": b"new"})
    (box.home / "package" / "old").mkdir(parents=True)
    (box.home / "package" / "old" / "stale.py").write_text("stale")
    (box.home / "package" / "link").symlink_to("/etc/passwd")
    host = SshHost(box.login(), SystemClock(), patience=5.0)
    host.send(source, "package", files)
    host.close()
    assert held(box) == {"train.py": b"new"}
    assert not (box.home / "package" / "old").exists()
    aside = list((box.home / "package" / ".harness" / "aside").rglob("stale.py"))
    assert [path.read_text() for path in aside] == ["stale"]


TRAINS = """\
import os, sys
os.makedirs("models/output/sft/checkpoint-100", exist_ok=True)
open("models/output/sft/checkpoint-100/trainer_state.json", "w").write("{}")
open("run.json", "w").write("{}")
import helper
print(helper.WORD, flush=True)
import time
time.sleep(60 * len(sys.argv[1:]))
"""
OUTPUTS = {"training.log", "run.json", "models/output/sft/checkpoint-100/trainer_state.json"}


@pytest.fixture
def attempt(box: LocalSshd, tmp_path: Path) -> Iterator[tuple[SshHost, Path, dict[str, Sha256], TrainingSession]]:
    """A package on the box, whose training has spoken, and runs."""
    source, files = package(tmp_path, {"train.py": TRAINS.encode(), "helper.py": b"WORD = 'wrong'\n"})
    host = SshHost(box.login(), SystemClock(), patience=5.0)
    host.send(source, "package", files)
    base = box.home / "package" / "models" / "base" / "config.json"
    base.parent.mkdir(parents=True)
    base.write_text("downloaded by the package's install command")
    session = TrainingSession(host, "package", f"upload-{os.getpid()}")
    assert session.start(["python3", "train.py", "wait"])
    log = box.home / "package" / "training.log"
    deadline = time.monotonic() + 120
    while not log.exists() or "wrong" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield host, source, files, session
    session.stop(grace=0.1)
    host.close()


def test_a_mended_package_follows_an_attempt_that_was_stopped(
    box: LocalSshd, attempt: tuple[SshHost, Path, dict[str, Sha256], TrainingSession]
) -> None:
    host, source, files, session = attempt
    session.stop(grace=5.0)
    (source / "helper.py").write_bytes(b"WORD = 'mended'\n")
    files["helper.py"] = Sha256(hashlib.sha256(b"WORD = 'mended'\n").hexdigest())
    host.send(source, "package", files)
    left = {name for name in held(box) if "__pycache__" not in name}
    assert left == {"train.py", "helper.py", "models/base/config.json"}
    (aside,) = (box.home / "package" / ".harness" / "aside").iterdir()
    assert {name for name in OUTPUTS if (aside / name).is_file()} == OUTPUTS
    assert (aside / ".harness" / "launch.json").is_file()
    assert not session.state().started
    assert session.start(["python3", "train.py"])
    deadline = time.monotonic() + 120
    while session.alive():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (box.home / "package" / "training.log").read_text() == "mended\n"
    assert session.state().exit_status == 0


def test_the_same_package_goes_on_from_its_own_outputs(
    box: LocalSshd, attempt: tuple[SshHost, Path, dict[str, Sha256], TrainingSession]
) -> None:
    host, source, files, session = attempt
    host.send(source, "package", files)
    assert session.alive()
    session.stop(grace=5.0)
    host.send(source, "package", files)
    assert held(box).keys() > OUTPUTS
    assert session.state().started


def test_what_a_running_training_writes_is_never_moved(
    box: LocalSshd, attempt: tuple[SshHost, Path, dict[str, Sha256], TrainingSession]
) -> None:
    host, source, files, session = attempt
    before = held(box)
    (source / "helper.py").write_bytes(b"WORD = 'mended'\n")
    files["helper.py"] = Sha256(hashlib.sha256(b"WORD = 'mended'\n").hexdigest())
    with pytest.raises(TransferFailed, match="a training runs here"):
        host.send(source, "package", files)
    assert session.alive()
    assert held(box) == before


def test_what_a_training_writes_meanwhile_is_not_waited_for(
    box: LocalSshd, attempt: tuple[SshHost, Path, dict[str, Sha256], TrainingSession]
) -> None:
    host, source, files, _ = attempt
    output = box.home / "package" / "models" / "output"
    over = threading.Event()

    def write() -> None:
        turn = 0
        with (box.home / "package" / "training.log").open("a") as log:
            while not over.is_set():
                turn += 1
                log.write("step\n" * 10_000)
                log.flush()
                (output / f"new-{turn}").mkdir()
                (output / f"new-{turn}" / "state").touch()
                shutil.rmtree(output / f"new-{turn}")

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            for _ in range(5):
                host.send(source, "package", files)
        finally:
            over.set()
        writing.result()


def test_what_was_set_aside_is_not_looked_at_again(box: LocalSshd, tmp_path: Path) -> None:
    source, files = package(tmp_path, {"train.py": b"new"})
    (box.home / "package").mkdir()
    (box.home / "package" / "-rf $(id)").write_text("somebody's")
    host = SshHost(box.login(), SystemClock(), patience=5.0)
    host.send(source, "package", files)
    host.send(source, "package", files)
    host.close()
    assert held(box) == {"train.py": b"new"}


def test_nothing_is_moved_where_it_cannot_be_told_whether_a_training_runs(box: LocalSshd, tmp_path: Path) -> None:
    source, files = package(tmp_path, {"train.py": b"new"})
    (box.home / "package" / ".harness").mkdir(parents=True)
    (box.home / "package" / ".harness" / "launch.json").write_text("{}")
    (box.home / "package" / "model.gguf").write_text("hours of work")
    host = SshHost(box.login(), SystemClock(), patience=5.0)
    with pytest.raises(TransferFailed, match=r"launch\.json is damaged"):
        host.send(source, "package", files)
    host.close()
    assert (box.home / "package" / "model.gguf").read_text() == "hours of work"


def test_cuts_cost_what_was_under_way(box: LocalSshd, tmp_path: Path) -> None:
    data = random.Random(3).randbytes(24 * MIB)
    source, files = package(tmp_path, {"data.bin": data, "small": b"x"})
    with Proxy(box.port, rate=20e6) as proxy:
        host = SshHost(box.login(proxy.port), SystemClock(), patience=10.0, limits=TransferLimits(patience=20.0))
        cuts = [6 * MIB, 12 * MIB, 18 * MIB]
        sent: list[int] = []

        def cut(progress: Progress) -> None:
            sent.append(progress.done)
            if cuts and progress.done > cuts[0]:
                cuts.pop(0)
                proxy.cut()

        host.send(source, "package", files, cut)
        host.close()
        assert proxy.cuts_made == 3
    assert held(box) == {"data.bin": data, "small": b"x"}
    assert not list((box.home / "package" / ".harness" / "incoming").iterdir())


def test_a_damaged_staged_part_is_not_kept(box: LocalSshd, tmp_path: Path) -> None:
    data = random.Random(4).randbytes(3 * MIB)
    source, files = package(tmp_path, {"data.bin": data})
    staging = box.home / "package" / ".harness" / "incoming"
    staging.mkdir(parents=True)
    (staging / files["data.bin"]).write_bytes(b"\0" * MIB)
    host = SshHost(box.login(), SystemClock(), patience=5.0)
    with pytest.raises(TransferFailed, match="arrived with the SHA-256"):
        host.send(source, "package", files)
    host.send(source, "package", files)
    host.close()
    assert held(box) == {"data.bin": data}


def test_a_local_file_that_changed_since_the_manifest_is_refused(box: LocalSshd, tmp_path: Path) -> None:
    source, files = package(tmp_path, {"a": b"one"})
    (source / "a").write_bytes(b"two")
    host = SshHost(box.login(), SystemClock(), patience=5.0)
    with pytest.raises(BadInput, match="changed since"):
        host.send(source, "package", files)
    (source / "a").unlink()
    with pytest.raises(BadInput, match="cannot be read"):
        host.send(source, "package", files)
    host.close()


@pytest.mark.parametrize("name", ["../x", "/x", "a\nb", "$(id)", "-rf"])
def test_names_that_could_deceive_are_refused(box: LocalSshd, tmp_path: Path, name: str) -> None:
    host = SshHost(box.login(), SystemClock(), patience=5.0)
    with pytest.raises(TransferFailed, match="refused"):
        host.send(tmp_path, "package", {name: Sha256("0" * 64)})
    with pytest.raises(BadInput, match="refused"):
        host.send(tmp_path, "package\n", {})
    host.close()


def test_files_of_the_same_bytes_go_on_from_the_part_of_one(box: LocalSshd, tmp_path: Path) -> None:
    data = random.Random(5).randbytes(MIB)
    source, files = package(tmp_path, {"a.bin": data, "b.bin": data})
    staging = box.home / "package" / ".harness" / "incoming"
    staging.mkdir(parents=True)
    (staging / files["a.bin"]).write_bytes(data[: MIB // 2])
    host = SshHost(box.login(), SystemClock(), patience=5.0)
    host.send(source, "package", files)
    host.close()
    assert held(box) == {"a.bin": data, "b.bin": data}


@pytest.mark.parametrize("beaten", ["before it is opened", "while it is hashed", "after it was hashed"])
def test_a_program_that_outlived_its_connection_may_be_the_faster_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beaten: str
) -> None:
    staging, data = tmp_path / ".harness" / "incoming", b"all of it"
    staging.mkdir(parents=True)
    digest = hashlib.sha256(data).hexdigest()
    (staging / digest).write_bytes(data)

    def overtake() -> None:
        (staging / digest).replace(tmp_path / "file")

    def hashing(path: str) -> dict[str, object]:
        if path.endswith(digest) and beaten == "while it is hashed":
            overtake()
        found: dict[str, object] = sha256(path)
        if path.endswith(digest) and beaten == "after it was hashed":
            overtake()
        return found

    if beaten == "before it is opened":
        overtake()
    monkeypatch.setattr(receive, "sha256", hashing)
    header = {"path": "file", "bytes": len(data), "sha256": digest, "offset": len(data), "executable": False}
    receive.receive(str(tmp_path), str(staging), header)
    assert (tmp_path / "file").read_bytes() == data
    assert not list(staging.iterdir())


def test_an_empty_directory_gives_way_to_a_file(box: LocalSshd, tmp_path: Path) -> None:
    source, files = package(tmp_path, {"data/train.py": b"new"})
    (box.home / "package" / "data" / "train.py" / "inner").mkdir(parents=True)
    host = SshHost(box.login(), SystemClock(), patience=5.0)
    host.send(source, "package", files)
    host.close()
    assert held(box) == {"data/train.py": b"new"}


def python_of(box: Path, lines: str) -> dict[str, str]:
    """The environment of a box whose python3 is a shell script of these lines."""
    tools = box / "bin"
    tools.mkdir(parents=True)
    (tools / "python3").write_text(f"#!/bin/sh\n{lines}\n")
    (tools / "python3").chmod(0o755)
    return {"PATH": f"{tools}:{os.environ['PATH']}"}


def logins(box: LocalSshd) -> int:
    return (box.directory / "sshd.log").read_text().count("Accepted publickey")


def test_a_full_disk_ends_the_upload_with_the_box_s_word(tmp_path: Path) -> None:
    narrow = LocalSshd(tmp_path / "narrow", python_of(tmp_path, f'ulimit -f 8192; exec {sys.executable} "$@"'))
    narrow.start()
    source, files = package(tmp_path, {"data.bin": random.Random(6).randbytes(24 * MIB)})
    host = SshHost(narrow.login(), SystemClock(), patience=5.0)
    try:
        with pytest.raises(TransferFailed, match="File too large"):
            host.send(source, "package", files)
        assert logins(narrow) == 1
    finally:
        host.close()
        narrow.stop()


def test_a_box_that_keeps_nothing_of_what_it_takes_is_given_up(tmp_path: Path) -> None:
    begins = f'{sys.executable} -c "${{4%%; exec*}}"'  # the loader's first words
    takes = begins + ' && echo \'{"present": {}, "staged": {}}\'; head -c 1000000 > /dev/null'
    sieve = LocalSshd(tmp_path / "sieve", python_of(tmp_path, takes))
    sieve.start()
    source, files = package(tmp_path, {"data.bin": random.Random(7).randbytes(8 * MIB)})
    host = SshHost(sieve.login(), SystemClock(), patience=5.0)
    try:
        with pytest.raises(HostUnreachable):
            host.send(source, "package", files)
        assert logins(sieve) == ATTEMPTS
    finally:
        host.close()
        sieve.stop()


class _Told(CommandPipe):
    """A pipe from a box that says one thing, a byte at a time."""

    def __init__(self, said: bytes) -> None:
        self._said = said
        self._silence = None
        self._rest = b""

    def write(self, data: bytes) -> None:
        pass

    def read(self, limit: int) -> bytes:
        said, self._said = self._said[: min(limit, 1)], self._said[1:]
        return said

    def close(self) -> None:
        pass


def send_to(told: _Told, tmp_path: Path, *, tree: Json = None) -> None:
    """An upload of one file to a box that says this, and then lists that."""
    source, files = package(tmp_path, {"a": b"one"})
    upload.send(
        source,
        "package",
        files,
        elsewhere={},
        connect=lambda _: told,
        probe=lambda asked: Answers({asked: probe.read(asked, Observed(value=tree))}),
    )


@pytest.mark.parametrize("said", ["[]", "null", "{}", '{"present": [], "staged": {}}', '{"present": {}, "staged": 1}'])
def test_an_odd_answer_is_a_failed_transfer(tmp_path: Path, said: str) -> None:
    with pytest.raises(TransferFailed):
        send_to(_Told(said.encode() + b"\n"), tmp_path)


def test_an_answer_that_never_ends_is_given_up(box: LocalSshd) -> None:
    login = box.login()
    connection = connect(login, login.endpoints[0])
    with (
        contextlib.closing(CommandPipe(connection, "while printf .; do sleep 0.05; done", silence=0.5)) as pipe,
        pytest.raises(HostUnreachable),
    ):
        pipe.read_line(1 << 20)


def test_an_answer_that_is_too_long_is_refused() -> None:
    with pytest.raises(TransferFailed, match="more than 10 bytes"):
        _Told(b"." * 100).read_line(10)


@pytest.mark.parametrize("path", [5, None, [], True, {}])
def test_an_odd_list_of_what_was_sent_is_a_failed_transfer(tmp_path: Path, path: Json) -> None:
    holds_it = f'{{"present": {{"a": "{hashlib.sha256(b"one").hexdigest()}"}}, "staged": {{}}}}\n'
    entry: Json = {"path": path, "kind": "file", "bytes": 3, "mtime": 0.0}
    with pytest.raises(TransferFailed, match=r"does not fit: entries\.0\.path"):
        send_to(_Told(holds_it.encode()), tmp_path, tree={"exists": True, "entries": [entry]})


def test_a_box_without_room_says_so(box: LocalSshd, tmp_path: Path) -> None:
    source, files = package(tmp_path, {"a": b"one"})
    (box.home / "package").write_text("a file where the directory should be")
    host = SshHost(box.login(), SystemClock(), patience=5.0)
    with pytest.raises(TransferFailed, match="cannot take the upload"):
        host.send(source, "package", files)
    host.close()
