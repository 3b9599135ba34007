"""Proof that a checkpoint is whole: every file that going on needs, each read as what its name says it is.

One reader for the box, where its source is sent, and for the copies at home. A checkpoint directory appears before its
files are whole, and a trainer goes on silently with other weights when ``optimizer.pt`` is missing: only the contents
count, never the name. Nothing is unpickled. Standard library only, runs on Python 3.8.

Decided, so that every reader gives one answer:

- ``trainer_state.json`` is read as Transformers reads it: UTF-8 without a byte order mark, and its ``global_step`` is a
  whole number (4, not 4.0 nor "4") that equals the one in the directory's name.
- A file of torch.save is a zip whose every entry holds its checksum, with a ``data.pkl`` one folder deep. The format
  before torch 1.6 has no checksum, so it is not taken for whole.
- A link in the place of a file is not that file: it would not come home with the directory.
- An adapter of NaN, of absurd numbers, of nothing or of zeros alone is whole as a file and unfit to go on from.
- Shards of several processes are not known to this reader: it says so, and calls them neither whole nor damaged.
- A directory that went away while it was looked at is no checkpoint, and one that cannot be read hides no other.
"""

# os.path throughout, as strings are what crosses the wire.
# ruff: noqa: PTH116, PTH118, PTH123, PTH208
from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import stat
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from harness.artifacts import safetensors

ADAPTER = "adapter_model.safetensors"
"""The file of a checkpoint that the whole training is in."""

STATE = "trainer_state.json"
MAX_JSON_BYTES = 64 << 20
_ALWAYS = ("optimizer.pt", "scheduler.pt", "rng_state.pth", STATE, "training_args.bin")
_WEIGHTS = (
    (ADAPTER, "adapter_config.json"),
    ("model.safetensors", "config.json"),
    (safetensors.INDEX, "config.json"),
    ("pytorch_model.bin", "config.json"),
)
"""Forms of trained weights: the file, and the one that says what they are."""

_SHARDS = {
    "optimizer.pt": re.compile(r"global_step\d+|optimizer(_\d+|\.bin)?|pytorch_model_fsdp(_\d+|\.bin)?"),
    "rng_state.pth": re.compile(r"rng_state_\d+\.pth"),
    ADAPTER: re.compile(r"global_step\d+|pytorch_model_fsdp(_\d+|\.bin)?|adapter_model\.bin"),
}
"""Other places of a file's content, as Accelerate, DeepSpeed, FSDP and older PEFT name them."""

_NAME = re.compile(r"checkpoint-(\d{1,9})")


class Checkpoint(NamedTuple):
    """One ``checkpoint-N`` as it was seen. Sizes in bytes; ``seal`` changes whenever one of its files does.

    ``problems``: damage; ``unread``: what could not be looked at; ``unfit``: why nothing should go on from it although
    it is whole.
    """

    path: Path
    step: int
    mtime: float
    files: dict[str, int]
    seal: str
    problems: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    unfit: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """True when every file that going on needs is there and whole."""
        return not self.problems and not self.unread

    @property
    def resumable(self) -> bool:
        """True when the training of an adapter can go on from here."""
        return self.complete and not self.unfit and ADAPTER in self.files

    @property
    def weights(self) -> str | None:
        """Name of the file that the trained weights are in, or that lists them; None where there is none."""
        return weights_of(self.files)


def weights_of(names: Collection[str]) -> str | None:
    """The file among a checkpoint's that the trained weights are in, or that lists them."""
    return next((weights for weights, _ in _WEIGHTS if weights in names), None)


def named(directory: str | os.PathLike[str]) -> tuple[tuple[int, Path], ...]:
    """Step and path of every ``checkpoint-N`` in a directory, ascending; none when the directory is not there."""
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    found = ((_NAME.fullmatch(name), Path(directory, name)) for name in names)
    return tuple(sorted((int(match[1]), path) for match, path in found if match and path.is_dir()))


def find(directory: str | os.PathLike[str], known: Collection[str] = ()) -> tuple[Checkpoint, ...]:
    """Every checkpoint in a trainer's output directory, by step. ``known``: as for ``inspect``."""
    return tuple(one for _, path in named(directory) for one in _if_there(path, known))


def _if_there(path: Path, known: Collection[str]) -> Iterator[Checkpoint]:
    try:
        yield inspect(path, known)
    except (FileNotFoundError, NotADirectoryError):
        return  # rotated away since the directory was listed
    except OSError as error:
        step = int(path.name.rpartition("-")[2])
        yield Checkpoint(path, step, 0.0, {}, "", unread=(f"the directory cannot be read: {error.strerror}",))


def inspect(path: Path, known: Collection[str] = ()) -> Checkpoint:
    """Look into one directory; one whose seal is ``known`` was read to its last byte before.

    One that is not named ``checkpoint-N`` is of whatever step it says, 0 when it says none. Raises OSError when it
    cannot be listed.
    """
    match = _NAME.fullmatch(path.name)
    folder = str(path)
    seen = _listed(folder)
    step = int(match[1]) if match else None
    stamps = sorted((name, one.st_size, one.st_mtime_ns, one.st_ino) for name, one in seen.items())
    seal = hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]
    problems, unread = [], []
    weights = next((pair for pair in _WEIGHTS if pair[0] in seen), _WEIGHTS[0])
    for name in (*weights, *_ALWAYS):
        try:
            problem = _problem(folder, name, seen.get(name), step, seal not in known)
        except FileNotFoundError:
            problem = "is missing"
        except OSError as error:
            unread.append(f"{name} cannot be read: {error.strerror or error}")
            continue
        elsewhere = sorted(filter(_SHARDS[name].fullmatch, seen)) if problem == "is missing" and name in _SHARDS else []
        if elsewhere:
            unread.append(f"{name} lies elsewhere, in {elsewhere[0]}, a form that is not read here")
        elif problem:
            problems.append(f"{name} {problem}")
    unfit = []
    if weights[0] == ADAPTER and not problems and not unread and seal not in known:
        unfit = list(filter(None, [_unfit(os.path.join(folder, ADAPTER), _stamp(seen[ADAPTER]))]))
    files = {name: one.st_size for name, one in seen.items()}
    mtime = os.stat(folder).st_mtime  # raises when it went away meanwhile: nothing is said of it then
    return Checkpoint(path, step or 0, mtime, files, seal, tuple(problems), tuple(unread), tuple(unfit))


def _listed(folder: str) -> dict[str, os.stat_result]:
    found = {}
    for name in os.listdir(folder):
        try:
            found[name] = os.lstat(os.path.join(folder, name))
        except FileNotFoundError:
            continue  # since the directory was read
    return found


def _stamp(seen: os.stat_result) -> tuple[int, int, int]:
    return (seen.st_size, seen.st_mtime_ns, seen.st_ino)


def _problem(folder: str, name: str, seen: os.stat_result | None, step: int | None, deep: bool) -> str | None:
    if seen is None:
        return "is missing"
    if not stat.S_ISREG(seen.st_mode) or not seen.st_size:
        return "is a link, not a file" if stat.S_ISLNK(seen.st_mode) else "is empty, or no file"
    path = os.path.join(folder, name)
    if name == safetensors.INDEX:
        return safetensors.index_problem(folder)
    if name.endswith(".safetensors"):
        return safetensors.problem(path)
    if name.endswith(".json"):
        return _json_problem(path, (step,) if name == STATE else None)
    return _archive_problem(path, _stamp(seen), deep)


def _json_problem(path: str, expected: tuple[int | None] | None) -> str | None:
    """``expected``: of the trainer's state, the step that the directory's name says (None when it says none)."""
    with open(path, "rb") as file:
        raw = file.read(MAX_JSON_BYTES + 1)
    if len(raw) > MAX_JSON_BYTES:
        return f"is larger than {MAX_JSON_BYTES} bytes"
    try:
        body: Any = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return f"does not parse: {str(error) or type(error).__name__}"
    if not isinstance(body, dict):
        return "is not a JSON object"
    told = body.get("global_step")
    if expected and (type(told) is not int or expected[0] not in (None, told)):
        wanted = "a whole number" if expected[0] is None else expected[0]
        return f"is of step {json.dumps(told)[:40]}, expected {wanted}"
    return None


@functools.lru_cache(maxsize=256)
def _archive_problem(path: str, stamp: tuple[int, int, int], deep: bool) -> str | None:
    """Problem of a file of torch.save; ``deep``: every byte is held against its checksum. ``stamp`` tells versions."""
    with open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return "is not a zip archive as torch.save writes it"
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                return "is compressed, which torch.save never does"
            if sum(entry.file_size for entry in entries) > stamp[0]:
                return "states more bytes than it has"
            if not any(entry.filename.endswith("/data.pkl") and entry.filename.count("/") == 1 for entry in entries):
                return "has no data.pkl: torch.load cannot read it"
            broken = archive.testzip() if deep else None
    except (zipfile.BadZipFile, EOFError, ValueError, RuntimeError) as error:
        return f"is not a whole archive: {str(error) or type(error).__name__}"
    return None if broken is None else f"is damaged: {broken} fails its checksum"


@functools.lru_cache(maxsize=64)
def _unfit(path: str, stamp: tuple[int, int, int]) -> str | None:
    """Why nothing should go on from these weights. ``stamp`` tells one version of the file from another."""
    del stamp
    zeros = True
    for entry, values in safetensors.scan(path):
        if 0 in entry.shape:
            return f"{entry.name[:80]} is empty"
        if values.odd:
            return f"{entry.name[:80]} holds NaN, infinity or numbers of {safetensors.MOST} and more"
        zeros &= values.zero
    return "the adapter is all zeros" if zeros else None


def adapter_problem(path: str | os.PathLike[str]) -> str | None:
    """Why an adapter file, wherever it lies, cannot be used; None when it can."""
    try:
        found = safetensors.problem(path)
        return found or _unfit(os.fspath(path), _stamp(os.stat(path)))
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
