"""Posttrain and postdownload: the artifact's digest is recorded on the box, then the file comes home."""

from __future__ import annotations

import posixpath
from pathlib import Path

from harness.artifacts import arrival, digest, manifest
from harness.context import RunnerContext
from harness.core import durable, regular_file
from harness.core.errors import BadInput, HarnessError, RemoteChanged
from harness.core.lifecycle import Stage
from harness.core.observed import CouldNotLook
from harness.core.ports import Progress, RemoteFile
from harness.core.questions import DigestOf, Glob, ReadText
from harness.core.text import printable
from harness.ledger.events import ArtifactRecorded, Fetched, Reopened
from harness.ledger.history import LocalFile
from harness.remote import path_safety
from harness.runner import evaluation
from harness.runner.progress import DOWNLOAD, ProgressReporter

_COMPANION_KINDS = ("adapter", "trainer_state", "modelfile", "run")
_DIGEST_TIMEOUT_S = 600.0


def posttrain(context: RunnerContext, reporter: ProgressReporter) -> None:
    """Record the finished artifact's size and digest, and bring its small companions home."""
    try:
        artifact = _find_artifact(context)
    except CouldNotLook as error:
        reporter.note(f"no artifact to record: {printable(str(error))}")
        return
    if context.history.artifact != artifact:
        context.record(ArtifactRecorded(artifact.path, artifact.size, artifact.sha256))
    _bring_companions(context, reporter)


def download(context: RunnerContext, reporter: ProgressReporter) -> None:
    """Bring the recorded artifact home, unless the very file is here already."""
    artifact = context.history.artifact
    if artifact is None:
        raise CouldNotLook("no artifact was recorded on the box")
    context.destination.mkdir(parents=True, exist_ok=True)
    local = context.destination / manifest.safe_path(posixpath.basename(artifact.path))
    rate = None
    if not _is_here(local, artifact, reporter) and not _moved(context, artifact, local):
        try:
            rate = _fetch(context, artifact, local, reporter)
        except RemoteChanged as error:
            # What was judged on the box is no more: the next run judges what is there now.
            context.record(Reopened(Stage.POSTTRAIN, str(error)))
            raise
    durable.sweep(local)
    fetched = LocalFile(local, artifact.size, artifact.sha256)
    if context.history.fetched != fetched:
        context.record(Fetched(str(local), artifact.size, artifact.sha256, rate))
    _bring_companions(context, reporter)
    _copy_again(context, local, artifact, reporter)


def _fetch(context: RunnerContext, artifact: RemoteFile, local: Path, reporter: ProgressReporter) -> float | None:
    """Fetch the artifact; bytes per second, None when nothing was left to come."""
    here_before: list[int] = []

    def show(progress: Progress) -> None:
        if not here_before:
            here_before.append(progress.done)
        reporter.meter(DOWNLOAD, progress.done, progress.total)

    began = context.clock.monotonic()
    context.host().fetch(artifact, local, show)
    seconds = context.clock.monotonic() - began
    came = artifact.size - here_before[0] if here_before else 0
    return came / seconds if came > 0 and seconds > 0 else None


def local_problem(context: RunnerContext, artifact: RemoteFile) -> str | None:
    """Problem of the fetched file on this machine, read now; None when it is the recorded artifact."""
    fetched = context.history.fetched
    if fetched is None:
        return "the artifact was never fetched"
    path = Path(fetched.path)
    if not path.is_file():
        return f"{path} is gone"
    return None if digest.of_file(path).sha256 == artifact.sha256 else f"{path} has changed"


def _is_here(local: Path, artifact: RemoteFile, reporter: ProgressReporter) -> bool:
    """True when the very file is in its place; another one is put aside.

    A file gets its name only when it is whole, and only then is it recorded as fetched: killed
    in between, it is here and not recorded.
    """
    if arrival.is_here(local, artifact.sha256):
        return True
    aside = arrival.make_way(local)
    if aside is not None:
        reporter.note(f"the file at {local} is not the recorded artifact, which takes its place: kept as {aside.name}")
    return False


def _moved(context: RunnerContext, artifact: RemoteFile, local: Path) -> bool:
    """True when the very file is taken from where it was to arrive before the job file named another place."""
    earlier = context.history.fetched
    if earlier is None or not arrival.is_here(Path(earlier.path), artifact.sha256):
        return False
    _copy(Path(earlier.path), local)
    local.chmod(0o444)
    return True


def _copy(source: Path, target: Path) -> None:
    with regular_file.opened(source) as file:
        durable.copy(file, target)


def _copy_again(context: RunnerContext, local: Path, artifact: RemoteFile, reporter: ProgressReporter) -> None:
    folder = context.job.artifact.second_copy
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / local.name
    if not _is_here(copy, artifact, reporter):
        _copy(local, copy)


def _find_artifact(context: RunnerContext) -> RemoteFile:
    pattern = posixpath.join(context.job.package.remote_dir, context.job.artifact.remote_dir, "*.gguf")
    found = context.host().probe([glob := Glob(pattern)])[glob].get()
    try:
        path = path_safety.one_file(found, pattern)
    except BadInput as error:
        raise CouldNotLook(str(error)) from error
    return _digest(context, path)


def _digest(context: RunnerContext, path: str) -> RemoteFile:
    seen = context.host().probe([question := DigestOf(path)], timeout=_DIGEST_TIMEOUT_S)[question].get()
    if seen.sha256 is None:
        raise CouldNotLook(f"{path} is no longer on the box")
    return RemoteFile(path, seen.bytes, seen.sha256)


def _bring_companions(context: RunnerContext, reporter: ProgressReporter) -> None:
    """Bring the small files that are not here yet; a failure is told, and the gate sees what is missing."""
    try:
        _fetch_companions(context)
    except (HarnessError, CouldNotLook, OSError, ValueError) as error:
        reporter.note(f"the companions could not all be fetched: {printable(str(error))}")


def _fetch_companions(context: RunnerContext) -> None:
    """Everything that the package's manifest names beside the model, the manifest, the log, and an evaluation."""
    directory = context.job.package.remote_dir
    path = posixpath.join(directory, "MANIFEST.json")
    told = context.host().probe([question := ReadText(path, manifest.MAX_MANIFEST_BYTES)])[question].get()
    if not told.exists or told.truncated:
        raise CouldNotLook(f"there is no {path} of a sane size on the box")
    outputs = manifest.read_output_manifest(told.text)
    companions = context.directory / "companions"
    for kind in _COMPANION_KINDS:
        for entry in outputs.of_kind(kind):
            remote = RemoteFile(posixpath.join(directory, entry.path), entry.size, entry.sha256)
            _fetch_companion(context, remote, companions / entry.path)
    for name in ("MANIFEST.json", "training.log", "run.json"):
        _fetch_companion(context, _digest(context, posixpath.join(directory, name)), companions / name)
    evaluation.bring(context)


def _fetch_companion(context: RunnerContext, remote: RemoteFile, local: Path) -> None:
    local.parent.mkdir(parents=True, exist_ok=True)
    if local.exists() and digest.of_file(local).sha256 == remote.sha256:
        durable.sweep(local)
        return
    context.host().fetch(remote, local)
