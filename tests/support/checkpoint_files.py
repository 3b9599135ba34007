"""Whole checkpoints for tests, every file as its format has it, and ways to break them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

ARCHIVES = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin")


def tensors(path: Path, *named: tuple[str, str, list[int], bytes]) -> Path:
    """A safetensors file of (name, type, shape, bytes)."""
    header, data = {}, b""
    for name, kind, shape, raw in named:
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def archive(path: Path, inner: str = "archive", payload: bytes = bytes(range(256)) * 40) -> Path:
    """A zip as torch.save lays it out: entries stored, one folder deep."""
    with zipfile.ZipFile(path, "w") as made:
        made.writestr(f"{inner}/data.pkl", b"\x80\x02}.")
        made.writestr(f"{inner}/data/0", payload)
        made.writestr(f"{inner}/version", b"3\n")
    return path


def write_checkpoint(folder: Path, step: int) -> Path:
    """``checkpoint-<step>`` below a folder, whole, of one small adapter."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    tensors(
        path / "adapter_model.safetensors",
        ("base_model.model.q_proj.lora_A.weight", "F32", [2, 4], b"\x00\x00\x80\x3f" * 8),
        ("base_model.model.q_proj.lora_B.weight", "F32", [4, 2], b"\x00\x00\x00\xbf" * 8),
    )
    (path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2}', encoding="utf-8")
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}), encoding="utf-8")
    for name in ARCHIVES:
        archive(path / name)
    return path
