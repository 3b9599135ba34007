"""Preflight, upload and install: the package is snapshotted, sent, and made ready on the box."""

from __future__ import annotations

from harness.artifacts import manifest
from harness.errors import TransferFailed
from harness.ids import Sha256
from harness.ports import Progress
from harness.runner.desk import RunnerDesk
from harness.runner.narrator import Narrator
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
    files = {manifest.safe_path(path): Sha256(digest) for path, digest in staged["files"].items()}

    def show(progress: Progress) -> None:
        narrator.meter("upload", progress.done, progress.total, f"{progress.rate / 1e6:.1f} MB/s")

    desk.host().send(desk.directory / "package", desk.job.package.remote_dir, files, show)
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
