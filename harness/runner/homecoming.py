"""Posttrain and postdownload: the artifact's digest is recorded on the box, then the file comes home."""

from __future__ import annotations

import posixpath
import shutil
from pathlib import Path

from harness import durable
from harness.artifacts import arrival, digest, manifest
from harness.canonical import Json
from harness.errors import HarnessError, RemoteChanged
from harness.facts.box import Digest, Entry, Text
from harness.facts.reading import typed
from harness.history import LocalFile
from harness.lifecycle import Stage
from harness.observed import CouldNotLook
from harness.ports import Progress, Question, RemoteFile
from harness.runner.desk import RunnerDesk
from harness.runner.narrator import Narrator
from harness.text import printable

_COMPANION_KINDS = ("adapter", "trainer_state", "modelfile", "run")
_DIGEST_TIMEOUT_S = 600.0


def posttrain(desk: RunnerDesk, narrator: Narrator) -> None:
    """Record the finished artifact's size and digest, and bring its small companions home."""
    try:
        artifact = _find_artifact(desk)
    except CouldNotLook as error:
        narrator.note(f"no artifact to record: {printable(str(error))}")
        return
    if desk.history.artifact != artifact:
        desk.record("artifact", {"path": artifact.path, "size": artifact.size, "sha256": artifact.sha256})
    _bring_companions(desk, narrator)


def download(desk: RunnerDesk, narrator: Narrator) -> None:
    """Bring the recorded artifact home, unless the very file is here already."""
    artifact = desk.history.artifact
    if artifact is None:
        raise CouldNotLook("no artifact was recorded on the box")
    desk.destination.mkdir(parents=True, exist_ok=True)
    local = desk.destination / manifest.safe_path(posixpath.basename(artifact.path))
    rate = None
    if not _is_here(local, artifact, narrator):
        try:
            rate = _fetch(desk, artifact, local, narrator)
        except RemoteChanged as error:
            # What was judged on the box is no more: the next run judges what is there now.
            desk.record("reopened", {"stage": Stage.POSTTRAIN.value, "why": str(error)})
            raise
    fetched = LocalFile(local, artifact.size, artifact.sha256)
    if desk.history.fetched != fetched:
        told: dict[str, Json] = {
            "path": str(local),
            "size": artifact.size,
            "sha256": artifact.sha256,
            "bytes_per_s": rate,
        }
        desk.record("fetched", told)
    _bring_companions(desk, narrator)
    _copy_again(desk, local, artifact, narrator)


def _fetch(desk: RunnerDesk, artifact: RemoteFile, local: Path, narrator: Narrator) -> float | None:
    """Fetch the artifact; bytes per second, None when nothing was left to come."""
    here_before: list[int] = []

    def show(progress: Progress) -> None:
        if not here_before:
            here_before.append(progress.done)
        narrator.meter("download", progress.done, progress.total, f"{progress.rate / 1e6:.1f} MB/s")

    began = desk.clock.monotonic()
    desk.host().fetch(artifact, local, show)
    seconds, came = desk.clock.monotonic() - began, artifact.size - (here_before[0] if here_before else artifact.size)
    return came / seconds if came > 0 and seconds > 0 else None


def local_problem(desk: RunnerDesk, artifact: RemoteFile) -> str | None:
    """What is wrong with the fetched file on this machine, read now; None when it is the recorded artifact."""
    fetched = desk.history.fetched
    if fetched is None:
        return "the artifact was never fetched"
    path = Path(fetched.path)
    if not path.is_file():
        return f"{path} is gone"
    return None if digest.of_file(path).sha256 == artifact.sha256 else f"{path} has changed"


def _is_here(local: Path, artifact: RemoteFile, narrator: Narrator) -> bool:
    """Whether the very file is in its place; another one is put aside.

    A file gets its name only when it is whole, and only then is it recorded as fetched: killed
    in between, it is here and not recorded.
    """
    if arrival.is_here(local, artifact.sha256):
        return True
    aside = arrival.make_way(local)
    if aside is not None:
        narrator.note(f"the file at {local} is not the recorded artifact, which takes its place: kept as {aside.name}")
    return False


def _copy_again(desk: RunnerDesk, local: Path, artifact: RemoteFile, narrator: Narrator) -> None:
    folder = desk.job.artifact.second_copy
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / local.name
    if not _is_here(copy, artifact, narrator):
        temporary = copy.with_name(copy.name + durable.PART_SUFFIX)
        shutil.copyfile(local, temporary)
        with temporary.open("rb+") as file:
            durable.flush(file.fileno())
        durable.publish(temporary, copy)


def _find_artifact(desk: RunnerDesk) -> RemoteFile:
    pattern = posixpath.join(desk.job.package.remote_dir, desk.job.artifact.remote_dir, "*.gguf")
    answers = desk.host().probe([Question("finals", "glob", {"pattern": pattern})])
    finals = [one for one in typed(answers.get("finals"), tuple[Entry, ...]).get() if one.kind == "file"]
    if len(finals) != 1:
        raise CouldNotLook(f"{len(finals)} files match {pattern} on the box, exactly one is needed")
    try:
        manifest.safe_path(posixpath.basename(finals[0].path))
    except ValueError as error:
        raise CouldNotLook(f"the box names its artifact in a way that cannot be trusted: {error}") from error
    return _digest(desk, finals[0].path)


def _digest(desk: RunnerDesk, path: str) -> RemoteFile:
    answers = desk.host().probe([Question("sha256", "sha256", {"path": path})], timeout=_DIGEST_TIMEOUT_S)
    seen = typed(answers.get("sha256"), Digest).get()
    if seen.sha256 is None:
        raise CouldNotLook(f"{path} is no longer on the box")
    return RemoteFile(path, seen.bytes, seen.sha256)


def _bring_companions(desk: RunnerDesk, narrator: Narrator) -> None:
    """What is not here yet of the small files; a failure is told, and the gate sees what is missing."""
    try:
        _fetch_companions(desk)
    except (HarnessError, CouldNotLook, OSError, ValueError) as error:
        narrator.note(f"the companions are not all here: {printable(str(error))}")


def _fetch_companions(desk: RunnerDesk) -> None:
    """Everything that the package's manifest names beside the model, the manifest itself, and the log."""
    directory = desk.job.package.remote_dir
    path = posixpath.join(directory, "MANIFEST.json")
    answers = desk.host().probe(
        [Question("manifest", "read_text", {"path": path, "limit": manifest.MAX_MANIFEST_BYTES})]
    )
    told = typed(answers.get("manifest"), Text).get()
    if not told.exists or told.truncated:
        raise CouldNotLook(f"there is no {path} of a sane size on the box")
    outputs = manifest.read_output_manifest(told.text)
    companions = desk.directory / "companions"
    for kind in _COMPANION_KINDS:
        for entry in outputs.of_kind(kind):
            remote = RemoteFile(posixpath.join(directory, entry.path), entry.size, entry.sha256)
            _fetch_companion(desk, remote, companions / entry.path)
    for name in ("MANIFEST.json", "training.log", "run.json"):
        _fetch_companion(desk, _digest(desk, posixpath.join(directory, name)), companions / name)


def _fetch_companion(desk: RunnerDesk, remote: RemoteFile, local: Path) -> None:
    local.parent.mkdir(parents=True, exist_ok=True)
    if local.exists() and digest.of_file(local).sha256 == remote.sha256:
        return
    desk.host().fetch(remote, local)
