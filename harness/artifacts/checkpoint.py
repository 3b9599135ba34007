"""Proof that a checkpoint is complete: every file that resuming needs, each parsed, and the step that its name says.

A checkpoint directory appears before its files are whole, and a trainer resumes silently
with other weights when ``optimizer.pt`` is missing: only the contents count, never the name.
"""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.artifacts import safetensors

REQUIRED: Final = (
    "adapter_model.safetensors",
    "adapter_config.json",
    "trainer_state.json",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "training_args.bin",
)
MAX_JSON_BYTES: Final = 64 << 20
_NAME = re.compile(r"checkpoint-(\d{1,9})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint directory as it was seen; complete when ``problems`` is empty."""

    path: Path
    step: int
    problems: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """True when training can go on from here."""
        return not self.problems


def inspect(path: Path) -> Checkpoint:
    """Look into one ``checkpoint-N`` directory. Raises ValueError when it is not named so."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path.name!r} is not named checkpoint-N")
    step = int(match[1])
    problems = []
    for name in REQUIRED:
        problem = _problem(path / name, step)
        if problem is not None:
            problems.append(f"{name}: {problem}")
    return Checkpoint(path, step, tuple(problems))


def find(directory: Path) -> tuple[Checkpoint, ...]:
    """Every checkpoint in a stage's output directory, by step; none when the directory is not there."""
    if not directory.is_dir():
        return ()
    found = [inspect(child) for child in directory.iterdir() if child.is_dir() and _NAME.fullmatch(child.name)]
    return tuple(sorted(found, key=lambda checkpoint: checkpoint.step))


def _problem(file: Path, step: int) -> str | None:
    try:
        if not file.is_file():
            return "missing"
        if file.suffix == ".safetensors":
            entries = safetensors.parse(file)
            return None if entries else "holds no tensor"
        if file.suffix == ".json":
            return _json_problem(file, step)
        return _archive_problem(file)
    except (OSError, ValueError, RecursionError) as error:
        return str(error) or type(error).__name__


def _json_problem(file: Path, step: int) -> str | None:
    if file.stat().st_size > MAX_JSON_BYTES:
        return f"larger than {MAX_JSON_BYTES} bytes"
    body = json.loads(file.read_bytes())
    if not isinstance(body, dict):
        return "not a JSON object"
    if file.name == "trainer_state.json" and body.get("global_step") != step:
        return f"global_step is {str(body.get('global_step'))[:40]}, the name says {step}"
    return None


def _archive_problem(file: Path) -> str | None:
    """Problem of a file that torch.save wrote, a ZIP archive whose directory stands at the end: a cut file has none.

    The archive is never unpickled: what is inside is not trusted.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            last = max((info.header_offset + info.compress_size for info in archive.infolist()), default=0)
    except zipfile.BadZipFile as error:
        return f"not a whole archive: {error}"
    if not any(name.endswith("/data.pkl") for name in names):
        return "not what torch.save writes: no data.pkl"
    return None if last <= file.stat().st_size else "entries lie beyond the end of the file"
