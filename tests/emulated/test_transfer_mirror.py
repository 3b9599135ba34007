"""A directory of the box comes home beside the training: whole or not at all, and cancelled at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.local_sshd import SSHD, LocalSshd
from harness.core.clock import SystemClock
from harness.core.errors import LocalDiskFull, TransferFailed
from harness.core.observed import Observed
from harness.core.ports import RemoteFile
from harness.core.questions import Answers, DigestOf
from harness.remote.host import SshHost
from harness.remote.probe import probe
from harness.remote.transfer import mirror
from harness.remote.transfer.attempt import Cancelled
from harness.remote.transfer.mirror import INCOMING

pytestmark = pytest.mark.skipif(SSHD is None, reason="sshd is not installed")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[LocalSshd]:
    server = LocalSshd(tmp_path / "box")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def host(box: LocalSshd) -> Iterator[SshHost]:
    made = SshHost(box.login(), SystemClock(), patience=5.0)
    yield made
    made.close()


def checkpoint(box: LocalSshd, step: int = 100, size: int = 4096) -> dict[str, str]:
    """A directory on the box with a subfolder; what to bring."""
    folder = box.home / "sft" / f"checkpoint-{step}"
    (folder / "ref").mkdir(parents=True)
    for name in ("adapter_model.safetensors", "ref/adapter_model.safetensors", "trainer_state.json"):
        (folder / name).write_bytes(name.encode() + bytes([step % 256]) * size)
    return {path.relative_to(folder).as_posix(): str(path) for path in folder.rglob("*") if path.is_file()}


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_very_files_come_home_and_nothing_else(host: SshHost, box: LocalSshd, tmp_path: Path) -> None:
    files = checkpoint(box)
    host.mirror(files, tmp_path / "mirror" / "checkpoint-100")
    assert content(tmp_path / "mirror" / "checkpoint-100") == {
        name: Path(path).read_bytes() for name, path in files.items()
    }
    assert [path.name for path in (tmp_path / "mirror").iterdir()] == ["checkpoint-100"]


def test_what_is_here_is_not_asked_for_again(host: SshHost, box: LocalSshd, tmp_path: Path) -> None:
    files = checkpoint(box)
    host.mirror(files, tmp_path / "checkpoint-100")
    box.stop()
    host.mirror(files, tmp_path / "checkpoint-100")


def test_one_that_was_called_off_has_no_name_and_goes_on(host: SshHost, box: LocalSshd, tmp_path: Path) -> None:
    files = checkpoint(box, size=8 << 20)

    def after_the_first_file() -> bool:
        return (tmp_path / f"checkpoint-100{INCOMING}" / "adapter_model.safetensors").exists()

    with pytest.raises(Cancelled):
        host.mirror(files, tmp_path / "checkpoint-100", after_the_first_file)
    assert not (tmp_path / "checkpoint-100").exists()
    first = (tmp_path / f"checkpoint-100{INCOMING}" / "adapter_model.safetensors").stat().st_mtime_ns
    host.mirror(files, tmp_path / "checkpoint-100")
    assert content(tmp_path / "checkpoint-100") == {name: Path(path).read_bytes() for name, path in files.items()}
    assert (tmp_path / "checkpoint-100" / "adapter_model.safetensors").stat().st_mtime_ns == first, "fetched twice"


def test_another_run_of_the_same_step_leaves_nothing_of_the_first(
    host: SshHost, box: LocalSshd, tmp_path: Path
) -> None:
    incoming = tmp_path / f"checkpoint-100{INCOMING}"
    incoming.mkdir()
    (incoming / "optimizer.pt").write_bytes(b"of another box")
    (incoming / "trainer_state.json").write_bytes(b"of another box")
    files = checkpoint(box)
    host.mirror(files, tmp_path / "checkpoint-100")
    assert content(tmp_path / "checkpoint-100") == {name: Path(path).read_bytes() for name, path in files.items()}


def test_a_file_that_is_gone_or_cannot_be_read_leaves_no_directory(
    host: SshHost, box: LocalSshd, tmp_path: Path
) -> None:
    files = checkpoint(box)
    Path(files["trainer_state.json"]).unlink()
    with pytest.raises(TransferFailed, match="cannot be recorded: it is gone"):
        host.mirror(files, tmp_path / "checkpoint-100")
    assert not (tmp_path / "checkpoint-100").exists()


def test_names_that_are_one_name_on_another_system_are_refused(host: SshHost, box: LocalSshd, tmp_path: Path) -> None:
    (box.home / "x").write_text("x")
    with pytest.raises(TransferFailed, match="does not tell"):
        host.mirror({"state": "x", "STATE": "x"}, tmp_path / "checkpoint-100")
    assert not (tmp_path / "checkpoint-100").exists()


@pytest.mark.parametrize("size", ["Infinity", "1e999", "NaN", "-1", '"x"', "null", "[]"])
def test_a_size_that_is_none_is_refused(tmp_path: Path, size: str) -> None:
    answer = json.loads(f'{{"exists": true, "bytes": {size}, "sha256": "{"0" * 64}"}}')

    def told(_: object) -> Answers:
        return Answers({DigestOf("a"): probe.read(DigestOf("a"), Observed(value=answer))})

    def fetch(remote: RemoteFile, destination: Path) -> None:
        raise TransferFailed(f"{destination} of {remote.size} bytes is asked for")

    with pytest.raises(TransferFailed):
        mirror.mirror(told, fetch, {"a": "a"}, tmp_path / "x", lambda: False)


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../b", "-rf", "a\nb", "$(id)"])
def test_a_name_that_could_leave_the_directory_is_refused(
    host: SshHost, box: LocalSshd, tmp_path: Path, name: str
) -> None:
    (box.home / "x").write_text("x")
    with pytest.raises(TransferFailed, match="is refused"):
        host.mirror({name: "x"}, tmp_path / "mirror" / "checkpoint-100")
    assert not (tmp_path / "mirror").exists()


def test_a_local_folder_that_cannot_be_made_is_told(host: SshHost, box: LocalSshd, tmp_path: Path) -> None:
    (tmp_path / "mirror").write_text("a file stands in the way")
    with pytest.raises(TransferFailed) as raised:
        host.mirror(checkpoint(box), tmp_path / "mirror" / "checkpoint-100")
    assert not isinstance(raised.value, LocalDiskFull)
