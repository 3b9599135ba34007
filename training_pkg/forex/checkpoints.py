"""The checkpoint that a run may go on from: the newest that is whole, by its files and their contents.

A missing optimizer.pt would be passed over in silence by the trainer and give other weights;
a truncated adapter would stop it although an older checkpoint is good.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from . import ranks, runlog

REQUIRED = (
    "adapter_model.safetensors",
    "adapter_config.json",
    "training_args.bin",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
)
"""In the order in which the trainer writes them."""

_ERRORS = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError)  # nested too deep, or with a password
_NAME = re.compile(r"checkpoint-(\d{1,9})")
_STATE_LIMIT = 64 << 20
_MOST = 131072
"""No weight is as large: float16 cannot hold it."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint, and the optimizer step it was made at."""

    path: Path
    step: int


def newest_complete(folder: Path, stage: str) -> Checkpoint | None:
    """The newest whole checkpoint of a stage.

    Newer ones that are not whole are named in the log and moved aside to ``passed-over-checkpoint-N``,
    so that a later save under their name starts from nothing.
    """
    with ranks.in_turn():
        return _newest(folder, stage)


def _newest(folder: Path, stage: str) -> Checkpoint | None:
    for checkpoint in sorted(_named(folder), key=lambda found: -found.step):
        reason = defect(checkpoint)
        if reason is None:
            return checkpoint
        runlog.say(runlog.PASSED_OVER, stage=stage, checkpoint=checkpoint.path.as_posix(), reason=reason)
        aside = checkpoint.path.with_name(f"passed-over-{checkpoint.path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        checkpoint.path.rename(aside)
    return None


def defect(checkpoint: Checkpoint) -> str | None:
    """Reason why a run should not go on from a checkpoint; None when it may."""
    for name in REQUIRED:
        path = checkpoint.path / name
        try:
            _parse(path)
        except FileNotFoundError:
            return f"{name} is missing"
        except (*_ERRORS, zipfile.BadZipFile, SafetensorError) as error:
            return f"{name} does not parse: {error}"
    state = json.loads((checkpoint.path / "trainer_state.json").read_text(encoding="utf-8"))
    step = state.get("global_step")
    if type(step) is not int or step != checkpoint.step:
        return f"trainer_state.json is of step {step!r}"
    return _unfit(checkpoint.path / "adapter_model.safetensors")


def _unfit(adapter: Path) -> str | None:
    """Why the weights of an adapter that is whole as a file are none to go on from."""
    tensors: Any = safe_open(adapter, framework="pt")
    moved = False
    for name in tensors.keys():  # noqa: SIM118 - it is no dict
        values = tensors.get_tensor(name).to(torch.float32)
        if not values.numel():
            return f"{adapter.name}: {name} is empty"
        if not values.isfinite().all() or values.abs().max() >= _MOST:
            return f"{adapter.name}: {name} holds NaN, infinity or numbers of {_MOST} and more"
        moved = moved or bool(values.any())
    return None if moved else f"{adapter.name} is all zeros"


def _named(folder: Path) -> list[Checkpoint]:
    if not folder.is_dir():
        return []
    matches = ((path, _NAME.fullmatch(path.name)) for path in folder.iterdir() if path.is_dir())
    return [Checkpoint(path, int(match[1])) for path, match in matches if match]


def _parse(path: Path) -> None:
    """Read a file as what its name says it is; nothing is unpickled. A link is not the file: it may lead anywhere."""
    if path.is_symlink():
        raise ValueError("it is a link")
    if path.suffix == ".json":
        if path.stat().st_size > _STATE_LIMIT:
            raise ValueError("too large")
        if not isinstance(json.loads(path.read_text(encoding="utf-8")), dict):
            raise ValueError("not an object")
    elif path.suffix == ".safetensors":
        # Opening it checks that the header parses and that the tensors fill the file exactly.
        tensors: Any = safe_open(path, framework="np")
        if not tensors.keys():
            raise ValueError("it holds no tensors")
        with path.open("rb") as file:
            json.loads(file.read(int.from_bytes(file.read(8), "little")), object_pairs_hook=_once)
    else:
        # torch.save writes a zip archive, whose directory comes last and whose entries carry a CRC.
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if not any(re.fullmatch(r"[^/]+/data\.pkl", entry.filename) for entry in entries):
                raise ValueError("it holds no data.pkl")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise ValueError("it is compressed, which torch.save never does")
            if (broken := archive.testzip()) is not None:
                raise ValueError(f"{broken} fails its checksum")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is stated twice")
    return found
