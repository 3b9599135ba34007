"""One judge for whatever lies at a path: a row each says how a kind is known, and who judges it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.artifacts import adapter, checkpoint_findings, merged, shards
from harness.artifacts.dataset import judging as dataset
from harness.artifacts.expectation import Expectation
from harness.artifacts.gguf import MAGIC
from harness.artifacts.safetensors import INDEX
from harness.artifacts.tensors import few
from harness.artifacts.verify import verify_file
from harness.core.errors import BadInput
from harness.core.finding import Finding
from harness.log import judging as log


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of thing: its name for machines, how people know it, its mark, and its judge."""

    name: str
    known_by: str
    is_one: Callable[[Path], bool]
    judge: Callable[[Path, Expectation], tuple[Finding, ...]]


@dataclass(frozen=True, slots=True)
class Judged:
    """Findings about a path, and the kind of thing as which it was judged."""

    kind: str
    findings: tuple[Finding, ...]


def judge(path: Path, known: Expectation) -> Judged:
    """Judge what lies there. Raises BadInput for a thing of no kind, or an expectation that its kind does not have."""
    kind = kind_of(path, known)
    return Judged(kind, judge_as(kind, path, known))


def judge_as(kind: str, path: Path, known: Expectation) -> tuple[Finding, ...]:
    """Judge a thing of a kind that is known by name."""
    return next(each for each in KINDS if each.name == kind).judge(path, known)


def kind_of(path: Path, known: Expectation) -> str:
    """Name of the kind of thing that lies there. Raises BadInput as ``judge`` does."""
    if not path.exists():
        raise BadInput(f"{path} is not there")
    kind = next((kind for kind in KINDS if kind.is_one(path)), None)
    if kind is None:
        told = "; ".join(f"{kind.name}: {kind.known_by}" for kind in KINDS)
        raise BadInput(f"{path} is none of what can be judged", remedy=f"Name one of these. {told}.")
    of_files = (known.quantization, known.over_bytes, known.size, known.sha256)
    if kind.name != "gguf" and any(each is not None for each in of_files):
        raise BadInput(f"{path} is a {kind.name}: quant, over, size and --sha256 are expected of a GGUF alone")
    return kind.name


def _holds(name: str) -> Callable[[Path], bool]:
    return lambda path: (path / name).is_file()


def _ends(suffix: str) -> Callable[[Path], bool]:
    return lambda path: path.is_file() and path.suffix.lower() == suffix


def _is_model(path: Path) -> bool:
    weights = any(path.glob("*.safetensors")) or any(path.glob("*.bin")) or (path / INDEX).is_file()
    return (path / "config.json").is_file() and (weights or not any(path.glob("*.gguf")))


def _is_gguf(path: Path) -> bool:
    if path.is_dir():
        return any(path.glob("*.gguf"))
    if path.suffix.lower() == ".gguf" or not path.is_file():
        return path.is_file()
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _gguf(path: Path, known: Expectation) -> tuple[Finding, ...]:
    if path.is_dir():
        files = sorted(path.glob("*.gguf"))
        models = sorted({shards.siblings(file)[0] for file in files})
        if len(models) > 1:
            raise BadInput(
                f"{path} holds {len(models)} models", remedy=f"Name one of them: {few(sorted(map(str, models)))}"
            )
        path = next(file for file in files if shards.siblings(file)[0] == models[0])
    if known.sha256 is not None and len(shards.siblings(path)) > 1:
        raise BadInput(f"{path.name} is one of several files, and --sha256 is the digest of one")
    return verify_file(path, known)


KINDS: Final = (
    Kind(
        "checkpoint",
        "a folder with trainer_state.json",
        _holds("trainer_state.json"),
        lambda path, _: checkpoint_findings.judge(path),
    ),
    Kind(
        "adapter",
        "a folder with adapter_config.json",
        _holds("adapter_config.json"),
        lambda path, known: adapter.judge(path, known.config),
    ),
    Kind("model", "a folder with config.json and safetensors", _is_model, merged.judge),
    Kind("gguf", "a .gguf, any file of a split one, or the folder of one", _is_gguf, _gguf),
    Kind("log", "a training's .log, or another text of a trainer's steps", log.is_log, lambda path, _: log.judge(path)),
    Kind("dataset", "a .jsonl", _ends(".jsonl"), lambda path, _: dataset.judge(path)),
)
"""The first kind whose mark a path bears is what it is."""
