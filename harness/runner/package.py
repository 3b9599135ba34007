"""Preflight, upload and install: the package is snapshotted, sent, and made ready on the box."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.artifacts import digest, manifest
from harness.context import RunnerContext
from harness.core.errors import TransferFailed
from harness.core.ids import Sha256, new_nonce
from harness.core.ports import Progress
from harness.core.text import printable
from harness.facts.mirror import MIRROR, Resumable
from harness.job.staging import stage_package
from harness.ledger.events import Installed, Resumes, Staged, Uploaded
from harness.ledger.noted import BaseFetched
from harness.runner import ahead, switch
from harness.runner.progress import UPLOAD, ProgressReporter, waiting
from harness.runner.replacement import to_go_on_from, where_it_goes_on
from harness.runner.training import require_stopped

_COLLECTING = re.compile(rb"Collecting ([A-Za-z0-9][A-Za-z0-9._-]*)")
"""Pip's line for each package that it looks for, the dependencies' included."""
_LINE_LIMIT = 1 << 16
_IN_DIRECTORY = 'cd "$1" && shift && exec "$@"'


def preflight(context: RunnerContext, reporter: ProgressReporter) -> None:
    """Snapshot the package; what is verified from here on is this snapshot, whatever happens to its source."""
    switch.require_possible(context)
    reporter.note("staging the package and its data")
    staged = stage_package(context.job, context.directory, reporter.meter)
    known = context.history.staged
    if known is None or known.files != staged.manifest:
        context.record(Staged(str(staged.path), staged.manifest))


def upload(context: RunnerContext, reporter: ProgressReporter) -> None:
    """Make the box's directory hold exactly the snapshot."""
    staged = context.history.staged
    if staged is None:
        raise TransferFailed("no package was staged")
    files = {manifest.safe_path(path): Sha256(told) for path, told in staged.files.items()}
    checkpoints = _to_go_on_from(context, reporter)
    resumed = context.history.resumes.files if context.history.resumes is not None else {}
    files |= {manifest.safe_path(path): Sha256(told) for path, told in resumed.items()}

    def show(progress: Progress) -> None:
        reporter.meter(UPLOAD, progress.done, progress.total)

    package = context.directory / "package"
    if context.history.launches:  # an attempt of before the package was mended may run on
        require_stopped(context, reporter, "its package has changed")
        switch.disarm(context, reporter)
    ahead.begin(context, reporter)
    context.require_lease()
    context.host().send(
        package, context.job.package.remote_dir, files, show, elsewhere=checkpoints, written=context.job.output_folders
    )
    context.record(Uploaded(len(files)))


def install(context: RunnerContext, reporter: ProgressReporter, within_s: float) -> None:
    """Run the package's install command on the box, for so long at most; whether it worked is for the gate to see.

    Then its fetch command, unless that was done beside it. What was begun before the package was there is waited for.
    """
    package = context.job.package
    timeout = min(package.install_timeout_s, within_s)
    if package.install:
        ahead.ended(context, reporter, ahead.INSTALL, package.install, timeout)
        context.record(Installed(_ran(context, reporter, package.install, timeout)))
    if package.fetch:
        status = ahead.ended(context, reporter, ahead.BASE, package.fetch, timeout)
        context.record(BaseFetched(status if status == 0 else _ran(context, reporter, package.fetch, timeout)))


def _ran(context: RunnerContext, reporter: ProgressReporter, command: Sequence[str], timeout: float) -> int:
    """Exit status of a command of the package, run where it lies; its last words are told unless it worked."""
    argv = ["sh", "-c", _IN_DIRECTORY, "sh", context.job.package.remote_dir, *command]
    context.require_lease()
    result = context.host().run(argv, timeout=timeout, heard=_heard(context, reporter, command, timeout))
    if result.status != 0:
        said = printable((result.stderr or result.stdout).decode("utf-8", "replace")[-600:], 600)
        reporter.note(f"{' '.join(command)} ended with status {result.status}: {said}")
    return result.status


def _heard(
    context: RunnerContext, reporter: ProgressReporter, command: Sequence[str], timeout: float
) -> Callable[[bytes], None]:
    """Shows a command that begins now, and whatever of pip's words tells how far it is."""
    doing = "installing" if command == context.job.package.install else "fetching the base model"
    wait = waiting(f"{doing} on the box: {' '.join(command)}")
    began, found, rest = context.clock.monotonic(), set[str](), b""
    reporter.meter(wait, 0, math.ceil(timeout))

    def heard(said: bytes) -> None:
        nonlocal rest
        *lines, rest = (rest + said)[-_LINE_LIMIT:].split(b"\n")
        names = [match[1].decode() for line in lines if (match := _COLLECTING.match(line))]
        if names:
            found.update(names)
            waited = int(context.clock.monotonic() - began)
            reporter.meter(wait, waited, math.ceil(timeout), f"{len(found)} packages so far: {names[-1]}")

    return heard


def _to_go_on_from(context: RunnerContext, reporter: ProgressReporter) -> Mapping[str, Path]:
    """The mirrored checkpoints that go to the place of a dead instance with the package; recorded, none otherwise.

    A mirror that this run does not go on from is another run's, and moved aside.
    """
    lost, mirror = context.history.lost, context.directory / MIRROR
    another, found = context.history.repackaged, to_go_on_from(context)
    if lost is not None:
        reporter.note(where_it_goes_on(found, another=another))
    if found is None and mirror.is_dir() and (another or not context.history.launches):
        aside = mirror.with_name(f"{MIRROR}-of-earlier-{new_nonce()}")
        mirror.rename(aside)
        reporter.note(f"checkpoints of an earlier instance are kept in {aside.name}")
    found = found or Resumable({}, {})
    files = {path: digest.of_file(local).sha256 for path, local in found.files.items()}
    resumes = Resumes(found.steps, files)
    if lost is not None and context.history.resumes != resumes:
        context.record(resumes)
    return found.files
