"""The newest complete adapter, home before the box is gone."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.local_sshd import SSHD, LocalSshd
from harness.clock import SystemClock
from harness.errors import TransferFailed
from harness.remote.host import SshHost
from harness.remote.mirror import mirrored, newest_complete
from harness.remote.transfer import Cancelled

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


def checkpoint(box: LocalSshd, step: int, size: int = 4096) -> Path:
    folder = box.home / "sft" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    (folder / "adapter_model.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + bytes([step % 256]) * size
    )
    (folder / "adapter_config.json").write_text("{}")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("data.pkl", b"x" * 100)
    return folder


def test_without_checkpoints_there_is_nothing_to_mirror(host: SshHost, tmp_path: Path) -> None:
    assert host.mirror("sft", tmp_path / "mirror") is None
    assert mirrored(tmp_path / "mirror") == {}


def test_the_newest_complete_one_comes_home(host: SshHost, box: LocalSshd, tmp_path: Path) -> None:
    for step in (100, 200, 300):
        checkpoint(box, step)
    (box.home / "sft" / "checkpoint-300" / "trainer_state.json").write_text('{"global_step": 299}')
    assert host.mirror("sft", tmp_path / "mirror") == 200
    home = mirrored(tmp_path / "mirror")[200]
    assert sorted(path.name for path in home.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "trainer_state.json",
    ]
    there = box.home / "sft" / "checkpoint-200" / "adapter_model.safetensors"
    assert (home / "adapter_model.safetensors").read_bytes() == there.read_bytes()


def test_a_half_written_adapter_is_passed_over(host: SshHost, box: LocalSshd, tmp_path: Path) -> None:
    checkpoint(box, 100)
    half = checkpoint(box, 200) / "adapter_model.safetensors"
    half.write_bytes(half.read_bytes()[:-1])
    assert host.mirror("sft", tmp_path / "mirror") == 100


def test_everything_that_a_resume_needs(host: SshHost, box: LocalSshd, tmp_path: Path) -> None:
    checkpoint(box, 100)
    (checkpoint(box, 200) / "optimizer.pt").unlink()
    assert host.mirror("sft", tmp_path / "mirror", everything=True) == 100
    assert len(list(mirrored(tmp_path / "mirror")[100].iterdir())) == 6


def test_older_ones_go_after_a_newer_one_is_whole(host: SshHost, box: LocalSshd, tmp_path: Path) -> None:
    for step in (100, 200, 300):
        checkpoint(box, step)
        assert host.mirror("sft", tmp_path / "mirror") == step
    assert sorted(mirrored(tmp_path / "mirror")) == [200, 300]


def test_one_that_was_called_off_is_no_checkpoint_and_goes_on(host: SshHost, box: LocalSshd, tmp_path: Path) -> None:
    checkpoint(box, 100, size=24 << 20)
    with pytest.raises(Cancelled):
        host.mirror("sft", tmp_path / "mirror", cancelled=lambda: True)
    assert mirrored(tmp_path / "mirror") == {}
    assert host.mirror("sft", tmp_path / "mirror") == 100
    assert [path.name for path in (tmp_path / "mirror").iterdir()] == ["checkpoint-100"]


def test_a_box_that_cannot_tell_raises(host: SshHost, box: LocalSshd, tmp_path: Path) -> None:
    (box.home / "sft").mkdir()
    for number in range(201):
        (box.home / "sft" / f"checkpoint-{number}").mkdir()
    with pytest.raises(TransferFailed, match="cannot be looked at"):
        host.mirror("sft", tmp_path / "mirror")


@pytest.mark.parametrize("answer", [None, {}, [{}], [{"files": {"a": "x"}}]])
def test_an_odd_description_is_refused(answer: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        newest_complete(answer)  # type: ignore[arg-type]  # JSON spelled out
