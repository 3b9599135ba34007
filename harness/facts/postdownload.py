"""Postdownload: what came home, read from its disk now, beside what was recorded on the box."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness.artifacts import adapter, apart, arrival, digest, elsewhere, manifest, merged, parts
from harness.artifacts.expectation import Expectation
from harness.artifacts.model_shape import read_config
from harness.artifacts.parts import Artifact
from harness.artifacts.tokenizer import read_trained
from harness.artifacts.verify import verify_file
from harness.context import JobContext
from harness.core.finding import Finding
from harness.core.observed import CouldNotLook, Observed
from harness.facts import finals, runtime
from harness.facts.reading import attempt, needed


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
    """One look at what came home. Optional looks that the job does not ask for say so.

    ``hashed`` and ``second_copy`` are of a folder what is of a file: all bytes, and the digest of its manifest.
    """

    local: Observed[LocalArtifact]
    hashed: Observed[digest.Hashed]
    remote: Observed[Artifact]
    findings: Observed[tuple[Finding, ...]]
    generation: Observed[runtime.Generation]
    companions: Observed[Companions]
    second_copy: Observed[digest.Hashed]
    gone: bool = False
    """True when the instance is proven to be gone: nothing can be fetched from it again."""
    differences: tuple[str, ...] = ()
    """How the files here differ from those on the box, by name."""


def look(context: JobContext) -> PostdownloadFacts:
    """Read the files once for their digests, and beside that all else; the box is not needed any more."""
    history = context.history
    place = attempt(lambda: Path(needed(history.fetched, "no file was fetched by this job").path))
    path = attempt(lambda: _there(place.get()))
    remote = attempt(lambda: needed(history.artifact, "no artifact was recorded on the box"))
    with ThreadPoolExecutor(2) as pool:
        here = pool.submit(attempt, lambda: parts.here(path.get()))
        second_copy = pool.submit(attempt, lambda: _second_copy(context, path.get()))
        read = here.result
        return PostdownloadFacts(
            local=attempt(lambda: _local(place.get(), remote.get())),
            remote=remote,
            findings=attempt(lambda: _findings(context, path.get(), remote.get())),
            companions=attempt(lambda: _companions(context)),
            generation=attempt(lambda: _generation(context, _first(path.get(), remote.get()))),
            hashed=read().map(lambda found: found[0]),
            second_copy=second_copy.result(),
            gone=history.destroyed is not None,
            differences=attempt(lambda: parts.differences(read().get()[1], remote.get().parts)).value or (),
        )


def _there(path: Path) -> Path:
    """A path at which something lies; raises CouldNotLook in the words of the check that it does."""
    if not path.exists():
        raise CouldNotLook(f"there is no {path}")
    return path


def _local(path: Path, artifact: Artifact) -> LocalArtifact:
    partial = tuple(one.name for one in arrival.unfinished(path))
    regular = not path.is_symlink() and (_holds_files(path) if artifact.files else path.is_file())
    return LocalArtifact(str(path), path.exists(), regular, partial)


def _holds_files(folder: Path) -> bool:
    """True for a folder with files in it, and nothing else such as links."""
    return folder.is_dir() and bool(parts.listed(folder)) and not parts.links(folder)


def _first(place: Path, artifact: Artifact) -> Path:
    """The file by which a model is loaded: itself, or the first of a split."""
    return artifact.parts[0].at(place)


def _findings(context: JobContext, path: Path, artifact: Artifact) -> tuple[Finding, ...]:
    """The artifact against what the operator's job file and the training's own tokenizer demand of it."""
    job, home = context.job, context.directory / "companions"
    if job.artifact.kind == "gguf":
        expectation = Expectation(
            config=job.model.model_dump(),
            trained=read_trained(home / job.adapter_folder),
            quantization=job.artifact.quantization,
        )
        return apart.findings(verify_file, _first(path, artifact), expectation)
    run = home / "run.json"
    base = finals.base_config(job, read_config(run) if run.is_file() else None)
    if job.artifact.kind == "adapter":
        return apart.findings(adapter.judge, path, base if job.artifact.predict else None)
    tokenizer = home / job.adapter_folder
    trained = read_trained(tokenizer) if (tokenizer / "tokenizer.json").is_file() else None
    return apart.findings(merged.judge_as_planned, path, Expectation(config=base, trained=trained))


def _generation(context: JobContext, path: Path) -> runtime.Generation:
    if not context.job.gates.generate:
        raise CouldNotLook("the job asks for no generation")
    return runtime.generate(path, context.job.gates.prompt)


def _companions(context: JobContext) -> Companions:
    """The small files here against the package's manifest; an unmodified trainer's against the digests of the box."""
    folder = context.directory / "companions"
    if context.job.unmodified:
        return _unlisted(context, folder)
    outputs = manifest.read_output_manifest((folder / "MANIFEST.json").read_bytes())
    problems = [f"{name} is missing" for name in ("training.log", "run.json") if not (folder / name).is_file()]
    verified = 0
    for entry in outputs.files:
        if entry.kind in {*manifest.ARTIFACTS, manifest.TRACKER}:
            continue
        local = folder / entry.path
        if not local.is_file():
            problems.append(f"{entry.path} is missing")
        elif digest.of_file(local).sha256 != entry.sha256:
            problems.append(f"{entry.path} is not the file that the manifest states")
        else:
            verified += 1
    return Companions(verified, tuple(problems))


def _unlisted(context: JobContext, folder: Path) -> Companions:
    listed = manifest.read_found((folder / manifest.FOUND).read_bytes())
    due = {"training.log", *(f"{context.job.checkpoint_folder(one)}/" for one in context.job.trainers)}
    problems = [f"{name} is missing" for name in sorted(due) if not any(path.startswith(name) for path in listed)]
    wrong = [path for path, told in listed.items() if not arrival.is_here(folder / path, told)]
    return Companions(len(listed) - len(wrong), (*problems, *(f"{path} is not as it was on the box" for path in wrong)))


def _second_copy(context: JobContext, path: Path) -> digest.Hashed:
    address, artifact = context.job.artifact.second_copy_url, context.history.artifact
    if address is not None and artifact is not None:
        return elsewhere.read_back(path.name, artifact, address)
    folder = needed(context.job.artifact.second_copy, "the job asks for no second copy")
    return parts.here(folder / path.name)[0]
