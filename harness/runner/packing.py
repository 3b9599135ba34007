"""Preflight, upload and install: the package is snapshotted, sent, and made ready on the box."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.artifacts import digest, manifest
from harness.canonical import Json
from harness.errors import TransferFailed
from harness.facts.mirror import MIRROR, Resumable
from harness.ids import Sha256, new_nonce
from harness.ports import Progress
from harness.runner.desk import RunnerDesk
from harness.runner.narrator import Narrator
from harness.runner.replacing import outlook, package_digest, to_resume
from harness.runner.watching import require_stopped
from harness.staging import stage_package
from harness.text import printable

_IN_DIRECTORY = 'cd "$1" && shift && exec "$@"'


def preflight(desk: RunnerDesk, narrator: Narrator) -> None:
    """Snapshot the package; what is verified from here on is this snapshot, whatever happens to its source."""
    narrator.note("staging the package and its data")
    staged = stage_package(desk.job, desk.directory)
    known = desk.history.staged
    if known is None or known["files"] != staged.manifest:
        desk.record("staged", {"path": str(staged.path), "files": dict(staged.manifest)})


def upload(desk: RunnerDesk, narrator: Narrator) -> None:
    """Make the box's directory hold exactly the snapshot."""
    staged = desk.history.staged
    if staged is None:
        raise TransferFailed("no package was staged")
    files = {manifest.safe_path(path): Sha256(told) for path, told in staged["files"].items()}
    checkpoints = _to_go_on_from(desk, narrator)
    resumed = desk.history.resumes["files"] if desk.history.resumes is not None else {}
    files |= {manifest.safe_path(path): Sha256(told) for path, told in resumed.items()}

    def show(progress: Progress) -> None:
        narrator.meter("upload", progress.done, progress.total, f"{progress.rate / 1e6:.1f} MB/s")

    package = desk.directory / "package"
    if desk.history.launches:  # an attempt of before the package was mended may run on
        require_stopped(desk, narrator, "its package has changed")
    desk.host().send(package, desk.job.package.remote_dir, files, show, elsewhere=checkpoints)
    desk.record("uploaded", {"files": len(files)})


def install(desk: RunnerDesk, narrator: Narrator) -> None:
    """Run the package's install command on the box; whether it worked is for the gate to see."""
    package = desk.job.package
    if not package.install:
        return
    narrator.note("installing on the box: " + " ".join(package.install))
    argv = ["sh", "-c", _IN_DIRECTORY, "sh", package.remote_dir, *package.install]
    result = desk.host().run(argv, timeout=package.install_timeout_s)
    if result.status != 0:
        said = printable((result.stderr or result.stdout).decode("utf-8", "replace")[-600:], 600)
        narrator.note(f"the install command ended with status {result.status}: {said}")
    desk.record("installed", {"status": result.status})


def _to_go_on_from(desk: RunnerDesk, narrator: Narrator) -> Mapping[str, Path]:
    """The mirrored checkpoints that go to the place of a dead instance with the package; recorded, none otherwise.

    A mirror that this run does not go on from is another run's, and moved aside.
    """
    lost, mirror = desk.history.lost, desk.directory / MIRROR
    another = lost is not None and lost["package"] != package_digest(desk.history)
    found = None
    if lost is not None:
        found = None if another else to_resume(desk)
        narrator.note("the training begins anew: the package is another one" if another else outlook(found))
    if found is None and mirror.is_dir() and (another or not desk.history.launches):
        aside = mirror.with_name(f"{MIRROR}-of-earlier-{new_nonce()}")
        mirror.rename(aside)
        narrator.note(f"checkpoints of an earlier instance are kept in {aside.name}")
    found = found or Resumable({}, {})
    files = {path: digest.of_file(local).sha256 for path, local in found.files.items()}
    told: dict[str, Json] = {"steps": dict(found.steps), "files": dict(files)}
    if lost is not None and desk.history.resumes != told:
        desk.record("resumes", told)
    return found.files
