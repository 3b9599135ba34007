"""Posttrain and postdownload: the artifact's digest is recorded on the box, then its files come home."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.artifacts import arrival, digest, elsewhere, manifest, parts
from harness.artifacts import finals as artifact_files
from harness.artifacts.checkpoint import ADAPTER
from harness.artifacts.parts import Artifact, ArtifactFile
from harness.context import RunnerContext
from harness.core import canonical, durable, regular_file
from harness.core.errors import BadInput, HarnessError, RemoteChanged
from harness.core.lifecycle import Stage
from harness.core.observed import CouldNotLook
from harness.core.ports import Progress, RemoteFile
from harness.core.questions import DigestOf, ReadText, TreeOf
from harness.core.text import printable
from harness.facts import finals
from harness.facts.mirror import MIRROR
from harness.ledger.events import ArtifactRecorded, Fetched, Reopened
from harness.ledger.history import LocalFile
from harness.remote import path_safety
from harness.runner import evaluation
from harness.runner.progress import DOWNLOAD, ProgressReporter

_COMPANION_KINDS = ("adapter", "trainer_state", "modelfile", "run")
_DIGEST_TIMEOUT_S = 600.0
_NAMED = 3
_TRACKED, _TRACKED_BYTES = 200, 64 << 20
"""Files of trackers that come home, and bytes of each, at most."""


def posttrain(context: RunnerContext, reporter: ProgressReporter) -> None:
    """Record the finished artifact's size and digest, and bring its small companions home."""
    try:
        artifact = _find_artifact(context)
    except CouldNotLook as error:
        reporter.note(f"no artifact to record: {printable(str(error))}")
        return
    if context.history.artifact != artifact:
        files = parts.entries(artifact.files) or None
        context.record(ArtifactRecorded(artifact.path, artifact.size, artifact.sha256, files))
    _bring_companions(context, reporter)


def download(context: RunnerContext, reporter: ProgressReporter) -> None:
    """Bring the recorded artifact home, unless the very files are here already."""
    artifact = context.history.artifact
    if artifact is None:
        raise CouldNotLook("no artifact was recorded on the box")
    context.destination.mkdir(parents=True, exist_ok=True)
    # A folder's own name on the box is a word like "final": here it has the job's.
    name = context.job.name if artifact.files else manifest.safe_path(posixpath.basename(artifact.path))
    local = context.destination / name
    rate = None
    if not _is_here(local, artifact):
        try:
            rate = _bring(context, artifact, local, reporter)
        except RemoteChanged as error:
            # What was judged on the box is no more: the next run judges what is there now.
            context.record(Reopened(Stage.POSTTRAIN, str(error)))
            raise
    arrival.sweep(local)
    fetched = LocalFile(local, artifact.size, artifact.sha256)
    if context.history.fetched != fetched:
        context.record(Fetched(str(local), artifact.size, artifact.sha256, rate))
    _bring_companions(context, reporter)
    _copy_again(context, local, artifact, reporter)


def _bring(context: RunnerContext, artifact: Artifact, local: Path, reporter: ProgressReporter) -> float | None:
    """Bring every file that is nowhere on this machine yet; bytes per second of those, None when none was to come.

    A folder gets its name when all of it is there. What has that name and is not the artifact is put aside.
    """
    arriving = arrival.incoming(local) if artifact.files else local
    sources = [context.directory / "companions" / context.job.artifact.remote_dir]
    if (earlier := context.history.fetched) is not None:  # where it was to arrive before the job file said otherwise
        sources.append(Path(earlier.path))
    fetch = _Fetch(context, reporter, artifact.size)
    if not artifact.files:
        _put_aside(local, reporter)
    for part in artifact.parts:
        here = part.at(arriving)
        if not arrival.is_here(here, part.sha256) and not _taken(part, local, sources, here):
            here.parent.mkdir(parents=True, exist_ok=True)
            arrival.make_way(here)
            fetch.one(RemoteFile(str(PurePosixPath(artifact.path, part.path)), part.size, part.sha256), here)
        fetch.done += part.size
    if artifact.files:
        _put_aside(local, reporter)
        arrival.publish(arriving, local, artifact)
    return fetch.rate


@dataclass(slots=True)
class _Fetch:
    """The artifact's way home: bytes that are ``done``, those that ``came``, and the seconds that they took."""

    context: RunnerContext
    reporter: ProgressReporter
    total: int
    done: int = 0
    came: int = 0
    seconds: float = 0.0

    def one(self, remote: RemoteFile, local: Path) -> None:
        """Fetch one file."""
        here_before: list[int] = []

        def show(progress: Progress) -> None:
            if not here_before:
                here_before.append(progress.done)
            self.reporter.meter(DOWNLOAD, self.done + progress.done, self.total)

        began = self.context.clock.monotonic()
        self.context.host().fetch(remote, local, show)
        self.seconds += self.context.clock.monotonic() - began
        self.came += remote.size - here_before[0] if here_before else 0

    @property
    def rate(self) -> float | None:
        """Bytes per second."""
        return self.came / self.seconds if self.came > 0 and self.seconds > 0 else None


def local_problem(context: RunnerContext, artifact: Artifact) -> str | None:
    """Problem of the fetched artifact on this machine, read now; None when it is the recorded one."""
    fetched = context.history.fetched
    if fetched is None:
        return "the artifact was never fetched"
    path = Path(fetched.path)
    if not path.is_dir() if artifact.files else not path.is_file():
        return f"{path} is gone"
    if artifact.files and (links := parts.links(path)):
        return f"{path} has changed: {links[0]} is a link, and not the file itself"
    hashed, files = parts.here(path)
    if hashed.sha256 == artifact.sha256:
        return None
    told = "; ".join(parts.differences(files, artifact.parts)[:_NAMED])
    return f"{path} has changed: {told}" if artifact.files else f"{path} has changed"


def _is_here(local: Path, artifact: Artifact) -> bool:
    """True when the very artifact is in its place.

    It gets its name only when it is whole, and only then is it recorded as fetched: killed in between, it is here and
    not recorded.
    """
    if not artifact.files:
        return arrival.is_here(local, artifact.sha256)
    try:
        return local.is_dir() and not local.is_symlink() and parts.here(local)[0].sha256 == artifact.sha256
    except BadInput:  # a link, a pipe, a file that cannot be read: not the artifact
        return False


def _put_aside(local: Path, reporter: ProgressReporter) -> None:
    aside = arrival.make_way(local)
    if aside is not None:
        reporter.note(f"the file at {local} is not the recorded artifact, which takes its place: kept as {aside.name}")


def _taken(part: ArtifactFile, local: Path, sources: Iterable[Path], here: Path) -> bool:
    """True when the very file was on this machine already.

    It is copied from there; out of a folder that is to make way for this one, it is taken.
    """
    found = (part.at(source) for source in (local, *sources))
    source = next((path for path in found if path != here and arrival.is_here(path, part.sha256)), None)
    if source is None:
        return False
    here.parent.mkdir(parents=True, exist_ok=True)
    arrival.make_way(here)
    if source == part.at(local):
        durable.publish(source, here)
    else:
        _copy(source, here)
        here.chmod(0o444)
    return True


def _copy(source: Path, target: Path) -> None:
    with regular_file.opened(source) as file:
        durable.copy(file, target)


def _copy_again(context: RunnerContext, local: Path, artifact: Artifact, reporter: ProgressReporter) -> None:
    folder, address = context.job.artifact.second_copy, context.job.artifact.second_copy_url
    if address is not None:
        elsewhere.copy(local, artifact, address)
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / local.name
    if _is_here(copy, artifact):
        return
    if not artifact.files:
        _put_aside(copy, reporter)
        _copy(local, copy)
        return
    for part in artifact.parts:
        target = part.at(arrival.incoming(copy))
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy(part.at(local), target)
    _put_aside(copy, reporter)
    arrival.publish(arrival.incoming(copy), copy, artifact)


def _find_artifact(context: RunnerContext) -> Artifact:
    """The finished artifact on the box, every file hashed there now. Raises CouldNotLook when there is none."""
    question = finals.question(context.job)
    found = finals.listed(context.job, context.host().probe([question])).get()
    folder = finals.place(context.job)
    try:
        names = artifact_files.pick(context.job.artifact.kind, folder, found)
        paths = [posixpath.join(folder, name) for name in names]
        odd = next(filter(None, map(path_safety.refused, paths)), None)
        if odd is not None:
            raise CouldNotLook(odd)
        files = [_digest(context, path) for path in paths]
        if context.job.artifact.kind == "gguf" and len(files) == 1:
            return Artifact(files[0].path, files[0].size, files[0].sha256)
        told = (ArtifactFile(name, one.size, one.sha256) for name, one in zip(names, files, strict=True))
        return parts.of_files(folder, told)
    except BadInput as error:
        raise CouldNotLook(str(error)) from error


def _digest(context: RunnerContext, path: str) -> RemoteFile:
    seen = context.host().probe([question := DigestOf(path)], timeout=_DIGEST_TIMEOUT_S)[question].get()
    if seen.sha256 is None:
        raise CouldNotLook(f"{path} is no longer on the box")
    return RemoteFile(path, seen.bytes, seen.sha256)


def _bring_companions(context: RunnerContext, reporter: ProgressReporter) -> None:
    """Bring the small files that are not here yet; a failure is told, and the gate sees what is missing."""
    try:
        tracked = _fetch_companions(context)
    except (HarnessError, CouldNotLook, OSError, ValueError) as error:
        reporter.note(f"the companions could not all be fetched: {printable(str(error))}")
        return
    for remote, local in tracked:
        try:
            _fetch_companion(context, remote, local)
        except (HarnessError, CouldNotLook, OSError, ValueError) as error:
            reporter.note(f"a tracker's file stays on the box: {printable(str(error))}")


def _fetch_companions(context: RunnerContext) -> list[tuple[RemoteFile, Path]]:
    """Everything that the package's manifest names beside the model, the manifest, the log, and an evaluation.

    The files of trackers, which nothing waits for, are returned with their places here.
    """
    if context.job.unmodified:
        return _fetch_unlisted(context)
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
    return [
        (RemoteFile(posixpath.join(directory, entry.path), entry.size, entry.sha256), companions / entry.path)
        for entry in outputs.of_kind(manifest.TRACKER)
        if entry.size <= _TRACKED_BYTES
    ][:_TRACKED]


def _fetch_unlisted(context: RunnerContext) -> list[tuple[RemoteFile, Path]]:
    """The log, and of each trainer's newest checkpoint all but the optimizer's state and a whole model's weights.

    TensorBoard's files, which the trainer writes beside its checkpoints, are returned as ``_fetch_companions`` does.
    """
    job, directory = context.job, context.job.package.remote_dir
    trees = {trainer: TreeOf(posixpath.join(directory, job.checkpoint_folder(trainer))) for trainer in job.trainers}
    answers = context.host().probe([*trees.values()])
    paths = ["training.log"]
    events: list[str] = []
    for trainer, tree in trees.items():
        found = [one.path for one in answers[tree].get().entries if one.kind == "file"]
        steps = {int(match[1]) for path in found if (match := _IN_CHECKPOINT.match(path))}
        newest = f"checkpoint-{max(steps)}/" if steps else None
        kept = [path for path in found if newest and path.startswith(newest) and _is_small(path.removeprefix(newest))]
        paths += [posixpath.join(job.checkpoint_folder(trainer), path) for path in kept]
        events += [
            posixpath.join(job.checkpoint_folder(trainer), one.path)
            for one in answers[tree].get().entries
            if one.kind == "file" and ".tfevents." in posixpath.basename(one.path) and one.bytes <= _TRACKED_BYTES
        ]
    companions = context.directory / "companions"
    listed = {}
    for path in paths:
        remote = _digest(context, posixpath.join(directory, path))
        _fetch_companion(context, remote, companions / manifest.safe_path(path))
        listed[path] = remote.sha256
    durable.write(companions / manifest.FOUND, canonical.canonical(listed))
    evaluation.bring(context)
    return [
        (_digest(context, posixpath.join(directory, path)), companions / manifest.safe_path(path))
        for path in events[:_TRACKED]
    ]


_IN_CHECKPOINT = re.compile(r"checkpoint-(\d{1,9})/")


def _is_small(name: str) -> bool:
    """True for an adapter, a tokenizer, a configuration and the trainer's state: what speaks of the training."""
    return name == ADAPTER or (name.endswith((".json", ".jinja", ".model", ".txt")) and "/" not in name)


def _fetch_companion(context: RunnerContext, remote: RemoteFile, local: Path) -> None:
    local.parent.mkdir(parents=True, exist_ok=True)
    if local.exists() and digest.of_file(local).sha256 == remote.sha256:
        durable.sweep(local)
        return
    mirrored = (context.directory / MIRROR).glob(f"*/*/{local.name}")
    alike = [path for path in mirrored if path.is_file() and path.stat().st_size == remote.size]
    alike.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    twin = next((path for path in alike if arrival.is_here(path, remote.sha256)), None)
    if twin is not None:  # the adapter is its last checkpoint's, which came home while the export ran
        _copy(twin, local)
        return
    context.host().fetch(remote, local)
