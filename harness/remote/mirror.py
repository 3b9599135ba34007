"""Copies the newest complete adapter home while the training goes on: what survives when the box does not.

One connection, low priority on the box, and out of the way at once when it is told so. A
checkpoint is first written to ``<name>.incoming`` and renamed when all of it is verified, so
that a directory without that suffix is whole; older ones go only after a newer one is whole.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import durable
from harness.errors import TransferFailed
from harness.ids import sha256
from harness.ports import Answers, Json, OnProgress, Question, RemoteFile
from harness.remote.hostile import safe_relative

INCOMING = ".incoming"
NAME = re.compile(r"checkpoint-([0-9]{1,9})")
ADAPTER = ("adapter_model.safetensors", "adapter_config.json", "trainer_state.json")
"""What a checkpoint is mirrored for: the trained adapter, and the step it was taken at."""

Probe = Callable[[Question], Answers]
Fetch = Callable[[RemoteFile, Path, OnProgress | None, Callable[[], bool]], None]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on the box, as the probe's operation ``checkpoints`` describes it."""

    path: str
    step: int
    files: Mapping[str, int]
    complete: bool


def newest_complete(answer: Json, *, resumable: bool = False) -> Checkpoint | None:
    """The newest checkpoint whose files all parse and whose recorded step is its own; None without one.

    ``resumable`` asks for the optimizer, the schedule and the random state as well.
    Raises ValueError when the answer is odd.
    """
    try:
        found = [_checkpoint(entry, resumable=resumable) for entry in _objects(answer)]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"an odd description of a checkpoint: {error}") from error
    return max((one for one in found if one.complete), key=lambda one: one.step, default=None)


def mirror(
    probe: Probe,
    fetch: Fetch,
    checkpoints: str,
    destination: Path,
    *,
    everything: bool = False,
    keep: int = 2,
    on_progress: OnProgress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> int | None:
    """Bring the newest complete checkpoint of a directory home; its step, None when there is none.

    Only the adapter and its step, or ``everything`` that a resume on another box needs. The ``keep``
    newest mirrored ones stay. Nothing is fetched when it is here already. Raises TransferFailed (Cancelled
    when ``cancelled`` says so; what arrived is kept), HostUnreachable, LocalDiskFull.
    """
    seen = probe(Question("checkpoints", "checkpoints", {"path": checkpoints})).get("checkpoints")
    if seen.problem is not None:
        raise TransferFailed(f"the checkpoints cannot be looked at: {seen.problem}")
    try:
        newest = newest_complete(seen.value, resumable=everything)
    except ValueError as error:
        raise TransferFailed(f"the box answers oddly: {error}") from error
    if newest is None:
        return None
    final = destination / f"checkpoint-{newest.step}"
    if final.is_dir():
        return newest.step
    incoming = final.with_name(final.name + INCOMING)
    incoming.mkdir(parents=True, exist_ok=True)
    for name in sorted(newest.files if everything else set(ADAPTER) & set(newest.files)):
        remote = _recorded(probe, f"{newest.path}/{safe_relative(name)}")
        fetch(remote, incoming / name, on_progress, cancelled)
    durable.publish(incoming, final)
    _prune(destination, keep)
    return newest.step


def mirrored(destination: Path) -> dict[int, Path]:
    """The whole checkpoints that are here, by step."""
    if not destination.is_dir():
        return {}
    names = {path: NAME.fullmatch(path.name) for path in destination.iterdir() if path.is_dir()}
    return {int(match.group(1)): path for path, match in sorted(names.items()) if match}


def _checkpoint(entry: dict[str, Any], *, resumable: bool) -> Checkpoint:
    files = {str(name): int(size) for name, size in entry["files"].items()}
    for name in files:
        safe_relative(name)
    step = int(entry["step"])
    needed = set(ADAPTER) | ({"optimizer.pt", "scheduler.pt", "rng_state.pth"} if resumable else set())
    parsed = all("value" in result for name, result in entry["parsed"].items() if resumable or name in needed)
    complete = needed <= set(files) and all(files.values()) and parsed and entry["global_step"] == {"value": step}
    return Checkpoint(str(entry["path"]), step, files, complete)


def _recorded(probe: Probe, path: str) -> RemoteFile:
    """The file with its size and digest as the box has it now."""
    seen = probe(Question("digest", "sha256", {"path": path})).get("digest")
    digest: Any = seen.value
    if seen.problem is not None or not isinstance(digest, dict) or digest.get("exists") is not True:
        raise TransferFailed(f"{path} cannot be recorded: {seen.problem or 'it is gone'}")
    try:
        return RemoteFile(path, int(digest["bytes"]), sha256(str(digest["sha256"])))
    except (KeyError, TypeError, ValueError) as error:
        raise TransferFailed(f"the box answers oddly about {path}: {error}") from error


def _prune(destination: Path, keep: int) -> None:
    """Delete all but the newest whole checkpoints, and what older attempts left."""
    whole = mirrored(destination)
    for step in sorted(whole)[:-keep] if keep else []:
        _delete(whole[step])
    for path in destination.glob(f"checkpoint-*{INCOMING}"):
        _delete(path)


def _delete(directory: Path) -> None:
    for path in directory.iterdir():
        path.chmod(0o666)  # Windows does not delete read-only files
    shutil.rmtree(directory)


def _objects(answer: Json) -> list[dict[str, Any]]:
    if not isinstance(answer, list):
        raise TypeError("not a list")
    return [entry for entry in answer if isinstance(entry, dict)]
