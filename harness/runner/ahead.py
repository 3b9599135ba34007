"""Head start: what the box fetches over its own line begins while the package is still on its way to it.

The installation and the base model, each in a session of its own, from a copy of the package's code in the harness's
corner of the directory. Nothing rests on it: the stage after the upload waits for both, runs the same commands where
they belong, which then find their work done, and records that. Killed anywhere, the box works on, and the next run
finds the same sessions.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Mapping

from harness.artifacts import manifest
from harness.context import RunnerContext
from harness.core.errors import HarnessError, LeaseLost
from harness.core.ids import Sha256
from harness.core.observed import CouldNotLook
from harness.core.questions import PackagesOf, TailOf
from harness.core.text import printable
from harness.facts import install as install_facts
from harness.job.model import PackageTable
from harness.ledger.codec import decode
from harness.ledger.events import Adopted, Rented
from harness.ledger.noted import ImageHad
from harness.remote.box.outputs import OURS
from harness.remote.session import LOG, TrainingSession
from harness.runner.progress import ProgressReporter, waiting

INSTALL, BASE = "install", "base"
_CODE_BYTES = 1 << 20
"""A file up to this size is code, unless it is data: the copy is there in a moment."""
_POLL_S = 2.0
_BESIDE_THE_CODE = 'cd .. && exec "$@"'


def begin(context: RunnerContext, reporter: ProgressReporter) -> None:
    """Start what can be started before the package is there; what cannot is said, and done after the upload."""
    commands = _commands(context.job.package)
    if not commands or context.history.staged is None:
        return
    try:
        _record_image(context)
        package, code = context.directory / "package", _code(context)
        context.require_lease()
        context.host().send(package, _folder(context), code, written=tuple(commands))
        for name, argv in commands.items():
            if _session(context, name).start(("sh", "-c", _BESIDE_THE_CODE, "sh", *argv)):
                reporter.note(f"begun on the box, beside the upload: {' '.join(argv)}")
    except LeaseLost:
        raise
    except (HarnessError, CouldNotLook, OSError) as error:
        reporter.note(f"nothing is begun before the package is there: {printable(str(error), 300)}")


def ended(context: RunnerContext, reporter: ProgressReporter, name: str, within_s: float) -> int | None:
    """Exit status of what was begun, once it has ended; None when it was not, was killed, or took too long."""
    session, began = _session(context, name), context.clock.monotonic()
    meter = waiting(f"on the box since the upload: {' '.join(_commands(context.job.package)[name])}")
    while (state := session.state()).alive:
        waited = context.clock.monotonic() - began
        if waited >= within_s:
            reporter.note(f"{meter.name}: stopped after {waited:.0f} s")
            session.stop()
            return None
        reporter.meter(meter, int(waited), math.ceil(within_s), _last_words(context, name))
        context.clock.sleep(_POLL_S)
    return state.exit_status


def _commands(package: PackageTable) -> Mapping[str, tuple[str, ...]]:
    return {name: argv for name, argv in ((INSTALL, package.install), (BASE, package.fetch)) if argv}


def _session(context: RunnerContext, name: str) -> TrainingSession:
    return TrainingSession(context.host(), posixpath.join(_folder(context), name), f"harness-{name}")


def _folder(context: RunnerContext) -> str:
    return posixpath.join(context.job.package.remote_dir, OURS, "ahead")


def _last_words(context: RunnerContext, name: str) -> str:
    log = TailOf(posixpath.join(_folder(context), name, LOG), lines=1, limit=4096)
    said = context.host().probe([log])[log].value
    return printable(said.lines[-1], 70) if said is not None and said.lines else ""


def _code(context: RunnerContext) -> dict[str, Sha256]:
    """The staged package without its data: small files, as they were staged."""
    staged, data = context.history.staged, set(context.job.data.paths.values())
    assert staged is not None  # noqa: S101 - looked at by the caller
    package = context.directory / "package"
    return {
        manifest.safe_path(path): Sha256(digest)
        for path, digest in staged.files.items()
        if path not in data and (package / path).stat().st_size <= _CODE_BYTES
    }


def _record_image(context: RunnerContext) -> None:
    """Record the requirements that the image meets, once for each instance and before anything is installed."""
    package = context.job.package
    last = [one for one in map(decode, context.history.records) if isinstance(one, Rented | Adopted | ImageHad)][-1:]
    if not package.install or any(isinstance(one, ImageHad) for one in last):
        return
    wanted = install_facts.wanted(context)
    question = PackagesOf(package.install[0], tuple(one.name for one in wanted))
    there = context.host().probe([question])[question].get()
    missing = tuple(one.requirement for one in install_facts.held_against(wanted, there).unsatisfied)
    versions = {one.name: there.packages[one.name] or "" for one in wanted if str(one) not in missing}
    context.record(ImageHad(versions, missing))
