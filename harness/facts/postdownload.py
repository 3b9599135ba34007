"""Postdownload: the file on this machine, read from its disk now, beside what was recorded on the box."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness.artifacts import apart, digest, manifest
from harness.artifacts.expectation import Expectation
from harness.artifacts.tokenizer import read_trained
from harness.artifacts.verify import verify_file
from harness.context import JobContext
from harness.core import durable
from harness.core.finding import Finding
from harness.core.observed import CouldNotLook, Observed
from harness.core.ports import RemoteFile
from harness.facts import runtime
from harness.facts.reading import attempt, needed

_TOKENIZER = Path("models") / "output" / "adapter"


@dataclass(frozen=True, slots=True)
class LocalArtifact:
    """The artifact's place on this machine; ``partial`` are unfinished files beside it."""

    path: str
    exists: bool
    regular: bool
    partial: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Companions:
    """The small files that came with the model: how many have their digest, and what is wrong with others."""

    verified: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PostdownloadFacts:
    """One look at what came home. Optional looks that the job does not ask for say so."""

    local: Observed[LocalArtifact]
    hashed: Observed[digest.Hashed]
    remote: Observed[RemoteFile]
    findings: Observed[tuple[Finding, ...]]
    generation: Observed[runtime.Generation]
    companions: Observed[Companions]
    second_copy: Observed[digest.Hashed]
    gone: bool = False
    """True when the instance is proven to be gone: nothing can be fetched from it again."""


def look(context: JobContext) -> PostdownloadFacts:
    """Read the file once for its digest, and beside that all else; the box is not needed any more."""
    history = context.history
    place = attempt(lambda: Path(needed(history.fetched, "no file was fetched by this job").path))
    path = attempt(lambda: _there(place.get()))
    with ThreadPoolExecutor(2) as pool:
        hashed = pool.submit(attempt, lambda: digest.of_file(path.get()))
        second_copy = pool.submit(attempt, lambda: _second_copy(context, path.get()))
        return PostdownloadFacts(
            local=attempt(lambda: _local(place.get())),
            remote=attempt(lambda: needed(history.artifact, "no artifact was recorded on the box")),
            findings=attempt(lambda: _findings(context, path.get())),
            companions=attempt(lambda: _companions(context)),
            generation=attempt(lambda: _generation(context, path.get())),
            hashed=hashed.result(),
            second_copy=second_copy.result(),
            gone=history.destroyed is not None,
        )


def _there(path: Path) -> Path:
    """A path at which something lies; raises CouldNotLook in the words of the check that it does."""
    if not path.exists():
        raise CouldNotLook(f"there is no {path}")
    return path


def _local(path: Path) -> LocalArtifact:
    partial = tuple(one.name for one in durable.unfinished(path))
    return LocalArtifact(str(path), path.exists(), path.is_file() and not path.is_symlink(), partial)


def _findings(context: JobContext, path: Path) -> tuple[Finding, ...]:
    """The file against what the operator's job file and the training's own tokenizer demand of it."""
    trained = context.directory / "companions" / _TOKENIZER
    expectation = Expectation(
        config=context.job.model.model_dump(),
        trained=read_trained(trained),
        quantization=context.job.artifact.quantization,
    )
    return apart.findings(verify_file, path, expectation)


def _generation(context: JobContext, path: Path) -> runtime.Generation:
    if not context.job.gates.generate:
        raise CouldNotLook("the job asks for no generation")
    return runtime.generate(path, context.job.gates.prompt)


def _companions(context: JobContext) -> Companions:
    folder = context.directory / "companions"
    outputs = manifest.read_output_manifest((folder / "MANIFEST.json").read_bytes())
    problems = [f"{name} is missing" for name in ("training.log", "run.json") if not (folder / name).is_file()]
    verified = 0
    for entry in outputs.files:
        if entry.kind == "gguf":
            continue
        local = folder / entry.path
        if not local.is_file():
            problems.append(f"{entry.path} is missing")
        elif digest.of_file(local).sha256 != entry.sha256:
            problems.append(f"{entry.path} is not the file that the manifest states")
        else:
            verified += 1
    return Companions(verified, tuple(problems))


def _second_copy(context: JobContext, path: Path) -> digest.Hashed:
    folder = needed(context.job.artifact.second_copy, "the job asks for no second copy")
    return digest.of_file(folder / path.name)
