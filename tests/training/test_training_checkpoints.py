"""The newest whole checkpoint is found; each way of not being whole is named and passed over."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from forex import checkpoints


def make(folder: Path, step: int) -> Path:
    """A checkpoint with every file, each as its format has it."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (path / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(range(8)))
    (path / "adapter_config.json").write_text("{}", encoding="utf-8")
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}), encoding="utf-8")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        with zipfile.ZipFile(path / name, "w") as archive:
            archive.writestr("x/data.pkl", b"x" * 1000)
    return path


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(bytes(data))


def test_the_newest_whole_one_is_chosen(tmp_path: Path) -> None:
    for step in (100, 200, 1000):
        make(tmp_path, step)
    (tmp_path / "checkpoint-tmp").mkdir()
    assert checkpoints.newest_complete(tmp_path, "sft") == checkpoints.Checkpoint(tmp_path / "checkpoint-1000", 1000)
    assert checkpoints.newest_complete(tmp_path / "absent", "sft") is None


FILES = (
    "adapter_model.safetensors",
    "adapter_config.json",
    "training_args.bin",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
)


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        *((name, Path.unlink, f"{name} is missing") for name in FILES),
        *((name, cut, f"{name} does not parse") for name in FILES if name != "adapter_config.json"),
        ("optimizer.pt", flip, "fails its checksum"),
        ("adapter_config.json", lambda path: path.write_text("[]"), "not an object"),
        ("trainer_state.json", lambda path: path.write_text('{"global_step": 199}'), "is of step 199"),
        ("adapter_model.safetensors", lambda path: path.write_bytes(b"\xff" * 80), "header too large"),
        ("adapter_model.safetensors", lambda path: path.write_bytes(path.read_bytes() + b"x"), "does not parse"),
        ("adapter_model.safetensors", lambda path: path.write_bytes(b"\x02" + bytes(7) + b"{}"), "holds no tensors"),
    ],
)
def test_one_that_is_not_whole_is_passed_over_and_moved_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, damage: Callable[[Path], object], said: str
) -> None:
    make(tmp_path, 100)
    damage(make(tmp_path, 200) / name)
    found = checkpoints.newest_complete(tmp_path, "sft")
    assert found == checkpoints.Checkpoint(tmp_path / "checkpoint-100", 100)
    line = capsys.readouterr().out
    assert line.startswith(f"[sft] PASSED OVER {(tmp_path / 'checkpoint-200').as_posix()}: ")
    assert said in line
    assert not (tmp_path / "checkpoint-200").exists()
    assert (tmp_path / "passed-over-checkpoint-200").is_dir()
