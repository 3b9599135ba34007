"""The staged package: a snapshot of the training package in the job's directory, complete and hashed.

What is judged, uploaded and run is this snapshot; editing the original afterwards changes
nothing until the package is staged again. The snapshot is built beside its place and
renamed into it; the note with its digests is written last. Killed anywhere, the next
call finds either a whole snapshot or none, and removes what was half built.
"""

from __future__ import annotations

import json
import math
import shutil
import stat
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from harness.artifacts import digest, manifest
from harness.core import durable, process
from harness.core.canonical import canonical
from harness.core.errors import BadInput
from harness.core.ids import Sha256, new_nonce
from harness.core.rate import SECONDS, Meter, Show, unwatched
from harness.job.model import Job

PACKAGE: Final = "package"
_NOTE: Final = "staged.json"
_BUILDING: Final = ".package."
_WORTH_SHOWING: Final = 100_000_000
"""Bytes that take longer than a moment to read or to copy."""
_HASHING: Final = Meter("hashing")
_COPYING: Final = Meter("copying")
_MAX_BYTES: Final = 64 << 30
_SKIPPED_FOLDERS: Final = frozenset(
    {".git", ".hg", ".svn", ".harness", ".venv", "venv", "node_modules", "__pycache__", ".tox", ".ipynb_checkpoints"}
)
_SKIPPED_ENDS: Final = (".pyc", ".pyo", ".egg-info", "_cache", ".swp", durable.PART_SUFFIX)
_OUTPUTS: Final = frozenset({"models/output", "training.log", "run.json", "MANIFEST.json"})
"""Outputs of a run: an old one must not be mistaken for this job's."""


@dataclass(frozen=True, slots=True)
class StagedPackage:
    """Snapshot of the package: its directory, and every file in it by relative POSIX path."""

    path: Path
    manifest: Mapping[str, Sha256]


def stage_package(job: Job, directory: Path, show: Show = unwatched) -> StagedPackage:
    """Make ``directory/package`` the snapshot of the job's package; the same again when nothing changed.

    ``job.package.prepare`` completes it when the data files are not there; a user's own are
    taken as they are. Raises BadInput for a package that cannot be staged.
    """
    source = job.package.source
    require_source(job, directory)
    directory.mkdir(parents=True, exist_ok=True)
    _sweep(directory)
    key = _key(job, source, show)
    known = _known(directory, key, show)
    if known is not None:
        return known
    building = directory / f"{_BUILDING}{new_nonce()}{durable.PART_SUFFIX}"
    try:
        _copy(source, building, show)
        _complete(job, building, show)
        files = _digests(building, show)
        _publish(building, directory)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    durable.write(directory / _NOTE, canonical({"key": key, "files": dict(files)}))
    return StagedPackage(directory / PACKAGE, files)


def is_staged(directory: Path, files: Mapping[str, Sha256]) -> bool:
    """True when ``directory/package`` is a snapshot with these files: on a machine that has no other package."""
    return (directory / PACKAGE).is_dir() and _digests(directory / PACKAGE, unwatched) == files


def require_source(job: Job, directory: Path) -> None:
    """Raise BadInput for a package that is no folder, or that the job's directory lies in."""
    source = job.package.source
    if not source.is_dir():
        raise BadInput(
            f"package.source: {source} is not a directory",
            remedy="Correct it in the job file, whose relative paths begin where the file lies; then: harness run "
            f"{job.name}",
        )
    if directory.resolve().is_relative_to(source.resolve()):
        raise BadInput(
            f"the job's directory {directory} lies inside the package {source}, which would be copied into itself"
        )


def must_be_prepared(job: Job, names: Container[str]) -> bool:
    """True when ``job.package.prepare`` is to make the data files, of which none is among the package's names."""
    wanted = job.data.paths.values()
    return bool(job.package.prepare and wanted) and not any(name in names for name in wanted)


def skipped(name: str) -> bool:
    """True when a relative path is no part of the package: caches, version control, the outputs of earlier runs."""
    last = PurePosixPath(name).name
    return last in _SKIPPED_FOLDERS or last.endswith(_SKIPPED_ENDS) or name in _OUTPUTS


def _key(job: Job, source: Path, show: Show) -> Sha256:
    """Names what the snapshot is made from: every file of the source, the command that completes it."""
    return digest.of_bytes(
        canonical(
            {
                "files": dict(_digests(source, show)),
                "prepare": list(job.package.prepare),
                "data": list(job.data.paths.values()),
            }
        )
    )


def _digests(folder: Path, show: Show) -> dict[str, Sha256]:
    """Digest of every file of a package by its name. Raises BadInput for a name that not every machine can have."""
    found = {}
    for name, path in _shown(folder, show, _HASHING):
        try:
            found[manifest.safe_path(name)] = digest.of_file(path).sha256
        except ValueError as error:
            raise BadInput(str(error), remedy="Rename the file: its name cannot be used on every machine.") from error
    return dict(sorted(found.items()))


def _shown(folder: Path, show: Show, meter: Meter) -> Iterator[tuple[str, Path]]:
    """The files of a package, and how far through its bytes their reader is."""
    files = [(name, path, path.stat().st_size) for name, path in package_files(folder)]
    done, total = 0, sum(size for _, _, size in files)
    for name, path, size in files:
        yield name, path
        done += size
        if total >= _WORTH_SHOWING:
            show(meter, done, total)


def _known(directory: Path, key: Sha256, show: Show) -> StagedPackage | None:
    """The snapshot that is there when it was made from the same and is still what it was."""
    try:
        note = json.loads((directory / _NOTE).read_bytes())
        noted: dict[str, Sha256] = dict(note["files"])
        if note["key"] != key:
            return None
        found = _digests(directory / PACKAGE, show)
    except (OSError, ValueError, KeyError, TypeError, BadInput):
        return None  # no note, or not ours: staging again is always right
    return StagedPackage(directory / PACKAGE, noted) if found == noted else None


def _copy(source: Path, target: Path, show: Show) -> None:
    target.mkdir()
    total = 0
    for name, path in _shown(source, show, _COPYING):
        total += path.stat().st_size
        if total > _MAX_BYTES:
            raise BadInput(f"{source} holds more than {_MAX_BYTES} bytes: is it the training package?")
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(path, copy)
            copy.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
        except OSError as error:
            raise BadInput(f"cannot copy {path}: {error.strerror or error}") from error


def package_files(source: Path) -> Iterator[tuple[str, Path]]:
    """Every file of the package with its relative path, sorted; links are followed only to files inside it."""
    root = source.resolve()
    pending, count = [source], 0
    while pending:
        try:
            children = sorted(pending.pop().iterdir(), reverse=True)
        except OSError as error:
            raise BadInput(f"cannot list {error.filename}: {error.strerror}") from error
        for child in children:
            name = child.relative_to(source).as_posix()
            if skipped(name):
                continue
            count += 1
            if count > manifest.MAX_FILES:
                raise BadInput(f"{source} holds more than {manifest.MAX_FILES} files: is it the training package?")
            kind = _kind(child, root)
            if stat.S_ISDIR(kind):
                pending.append(child)
            else:
                yield name, child


def _kind(path: Path, root: Path) -> int:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        real = path.resolve()
        if not real.is_relative_to(root):
            raise BadInput(f"{path} links to {real}, outside the package", remedy="Put the file itself there.")
        if not real.is_file():
            raise BadInput(f"{path} links to what is not a file", remedy="Put the file or folder itself there.")
        return stat.S_IFREG
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise BadInput(f"{path} is neither a file nor a directory", remedy="Remove it from the package.")
    return mode


def _complete(job: Job, building: Path, show: Show) -> None:
    """Run the package's own preparation when none of its data files is there."""
    names = job.data.paths.values()
    missing = [name for name in names if not (building / name).is_file()]
    if not missing or not job.package.prepare:
        return  # what is missing without a preparation is the business of the checks, which name it
    if len(missing) < len(names):
        raise BadInput(
            f"the package has only some of its data files: {', '.join(missing)} missing",
            remedy="Put your own files there, or remove them all so that they are built.",
        )
    command = " ".join(job.package.prepare)
    show(Meter(command, SECONDS), 0, math.ceil(job.package.prepare_timeout_s))
    done = process.run(job.package.prepare, cwd=building, timeout=job.package.prepare_timeout_s)
    if done.timed_out:
        raise BadInput(f"{command} did not end within {job.package.prepare_timeout_s:.0f} s: {done.tail[-500:]}")
    if done.status != 0:
        raise BadInput(
            f"{command} ended with status {done.status}: {done.tail[-1000:]}",
            remedy=f"With {', '.join(names)} of your own in {job.package.source} it is not run at all. What it imports "
            "comes with the training extra: pip install 'gold-standard-harness[training]'.",
        )
    still = [name for name in names if not (building / name).is_file()]
    if still:
        raise BadInput(f"{command} ended well but did not make {', '.join(still)}: {done.tail[-500:]}")
    for made in sorted(building.rglob("*"), reverse=True):
        if skipped(made.relative_to(building).as_posix()):
            shutil.rmtree(made) if made.is_dir() else made.unlink()
        elif made.is_symlink():
            raise BadInput(f"{command} made {made.name}, a link: a snapshot holds files", remedy="Make it a file.")


def _publish(building: Path, directory: Path) -> None:
    """Put the new snapshot in the old one's place. Killed between the renames, there is none, and it is made again."""
    place = directory / PACKAGE
    (directory / _NOTE).unlink(missing_ok=True)
    if place.exists():
        place.rename(directory / f"{_BUILDING}{new_nonce()}{durable.PART_SUFFIX}")
    building.rename(place)
    durable.flush_directory(directory)
    _sweep(directory)


def _sweep(directory: Path) -> None:
    for leftover in directory.glob(f"{_BUILDING}*{durable.PART_SUFFIX}"):
        shutil.rmtree(leftover, ignore_errors=True)
