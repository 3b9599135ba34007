"""One judge for whatever lies at a path: a row each says how a kind is known, and who judges it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.artifacts import adapter, checkpoint, merged, shards
from harness.artifacts.dataset import rows, sound
from harness.artifacts.expectation import Expectation
from harness.artifacts.gguf import MAGIC
from harness.artifacts.tensors import few
from harness.artifacts.verify import verify_file
from harness.core.errors import BadInput
from harness.core.finding import Finding
from harness.log import summary
from harness.log.proof import ProofLine


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
    if not path.exists():
        raise BadInput(f"{path} is not there")
    kind = next((kind for kind in KINDS if kind.is_one(path)), None)
    if kind is None:
        told = "; ".join(f"{kind.name}: {kind.known_by}" for kind in KINDS)
        raise BadInput(f"{path} is none of what can be judged", remedy=f"Name one of these. {told}.")
    of_files = (known.quantization, known.over_bytes, known.size, known.sha256)
    if kind.name != "gguf" and any(each is not None for each in of_files):
        raise BadInput(f"{path} is a {kind.name}: quant, over, size and --sha256 are expected of a GGUF alone")
    return Judged(kind.name, kind.judge(path, known))


def _holds(name: str) -> Callable[[Path], bool]:
    return lambda path: (path / name).is_file()


def _ends(suffix: str) -> Callable[[Path], bool]:
    return lambda path: path.is_file() and path.suffix.lower() == suffix


def _is_model(path: Path) -> bool:
    weights = any(path.glob("*.safetensors")) or any(path.glob("*.bin")) or (path / merged.INDEX).is_file()
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


def _adapter(path: Path, _known: Expectation) -> tuple[Finding, ...]:
    found = adapter.inspect(path)
    seen = few(found.problems) or f"{found.matrices} matrices of rank {found.rank}"
    claim, remedy = (
        "every matrix of the adapter is there, finite and trained",
        "Take the adapter of another checkpoint.",
    )
    return (Finding.of("adapter_trained", claim, not found.problems, seen, "no problem", remedy=remedy),)


def _checkpoint(path: Path, _known: Expectation) -> tuple[Finding, ...]:
    try:
        found = checkpoint.inspect(path)
    except ValueError as error:
        raise BadInput(str(error), remedy="Name the folder as the trainer does: checkpoint-N.") from error
    claim, remedy = "the training can go on from here", "Go on from another checkpoint, the one before it first."
    seen = few(found.problems) or f"step {found.step}"
    return (Finding.of("checkpoint_complete", claim, found.complete, seen, "every file, whole", remedy=remedy),)


def _dataset(path: Path, _known: Expectation) -> tuple[Finding, ...]:
    read = rows.read(path)
    defects = [*map(str, read.defects), *map(str, sound.judge([read]))]
    claim = "every line is a row of one schema, and fit to train on"
    seen = few(defects) or f"{len(read.rows)} rows"
    return (Finding.of("rows_sound", claim, not defects, seen, "no defect", remedy="Mend the rows that are named."),)


def _log(path: Path, _known: Expectation) -> tuple[Finding, ...]:
    found = summary.read(path.read_bytes(), ProofLine("ROWS: {sft} SFT + {dpo} DPO"))
    errors = [str(error) for error in found.errors] + ([found.failed] if found.failed else [])
    seen = few(errors) or f"{sum(len(trainer.steps) for trainer in found.trainers.values())} steps"
    claim, remedy = "no line of the log is an error", "Read the lines that are named, and mend their cause."
    return (Finding.of("log_without_errors", claim, not errors, seen, "no error", remedy=remedy),)


KINDS: Final = (
    Kind("checkpoint", "a folder with trainer_state.json", _holds("trainer_state.json"), _checkpoint),
    Kind("adapter", "a folder with adapter_config.json", _holds("adapter_config.json"), _adapter),
    Kind("model", "a folder with config.json and safetensors", _is_model, merged.judge),
    Kind("gguf", "a .gguf, any file of a split one, or the folder of one", _is_gguf, _gguf),
    Kind("dataset", "a .jsonl", _ends(".jsonl"), _dataset),
    Kind("log", "a training's .log", _ends(".log"), _log),
)
"""The first kind whose mark a path bears is what it is."""
