"""Brings checkpoints home while the training goes on: a box may die, what is here does not.

Beside the watch, in a thread with a connection of its own, one checkpoint at a time; called off when the
watch ends, so that it is never in the way of the final download. Below ``mirror/``, a directory
``<trainer>/checkpoint-<n>`` is whole: it gets its name when every file in it is verified.
"""

from __future__ import annotations

import contextlib
import posixpath
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.artifacts import checkpoint as checkpoints
from harness.artifacts.checkpoint import STATE, weights_of
from harness.context import RunnerContext
from harness.core.answers import BoxCheckpoint
from harness.core.errors import HarnessError
from harness.core.observed import CouldNotLook
from harness.core.ports import Host
from harness.core.questions import TreeOf
from harness.core.text import printable
from harness.facts.checkpoints import problems
from harness.facts.mirror import ADAPTER, MIRROR, RUN_FILE
from harness.facts.training import TrainingFacts
from harness.ledger.events import CheckpointMirrored
from harness.runner.progress import ProgressReporter

_KEPT = 2
"""Mirrored checkpoints of each trainer: an older one stays for the case that the newest is damaged here."""

_LEAVE_S = 5.0
"""Seconds that a mirror which was called off may take to end; it touches nothing but its own files meanwhile."""


@dataclass(slots=True)
class _Errand:
    """One checkpoint on its way, in a thread that uses nothing but its own host."""

    host: Host
    trainer: str
    checkpoint: BoxCheckpoint
    folder: Path
    files: Mapping[str, str] | None
    """Files to bring (relative path -> path on the box); None for everything that the directory holds."""
    run_file: str | None
    cancelled: threading.Event = field(default_factory=threading.Event)
    failure: Exception | None = None
    thread: threading.Thread = field(default_factory=threading.Thread)

    def is_before(self, trainer: str, checkpoint: BoxCheckpoint) -> bool:
        """True for an older checkpoint of the same trainer."""
        return self.trainer == trainer and self.checkpoint.step < checkpoint.step

    def start(self) -> None:
        self.thread = threading.Thread(target=self._run, name="harness-mirror", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            files = self.files if self.files is not None else self._everything()
            self.host.mirror(files, self.folder, self.cancelled.is_set)
        except (HarnessError, CouldNotLook, OSError, ValueError) as error:
            self.failure = error
        finally:
            self.host.close()

    def _everything(self) -> dict[str, str]:
        """All that a resume elsewhere needs: the directory's files, subfolders too, and what the run says of itself."""
        entries = self.host.probe([tree := TreeOf(self.checkpoint.path)])[tree].get().entries
        files = {one.path: posixpath.join(self.checkpoint.path, one.path) for one in entries if one.kind == "file"}
        return files if self.run_file is None else {**files, RUN_FILE: self.run_file}


class Mirroring:
    """The mirror of one watch; a context in which it may run."""

    def __init__(self, context: RunnerContext, reporter: ProgressReporter) -> None:
        self._context = context
        self._reporter = reporter
        self._errand: _Errand | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Call off what is under way; it goes on from there the next time."""
        if self._errand is not None and self.under_way:
            self._errand.cancelled.set()
            self._errand.thread.join(_LEAVE_S)
        if error is None and not self.under_way:
            self._conclude()

    @property
    def under_way(self) -> bool:
        """True while a checkpoint is on its way."""
        return self._errand is not None and self._errand.thread.is_alive()

    def go_on(self, seen: TrainingFacts) -> None:
        """Tell what came home, and send for the newest that is not here. Never waits for a byte.

        The weights that the export is made of go before an older checkpoint of their trainer that is on its way.
        """
        wanted = self._wanted(seen)
        if self.under_way and self._errand is not None:
            if wanted is not None and self._is_last(*wanted) and self._errand.is_before(*wanted):
                self._errand.cancelled.set()
            return
        self._conclude()
        if wanted is None or self._folder(wanted[0], wanted[1].step).exists():
            return
        try:
            self._errand = self._errand_for(*wanted)
        except HarnessError as error:
            self._tell(*wanted, error)
        else:
            self._errand.start()

    def _wanted(self, seen: TrainingFacts) -> tuple[str, BoxCheckpoint] | None:
        """Checkpoint that a resume needs, in the order of the training: the newest of each trainer."""
        for trainer, looked in seen.checkpoints.items():
            complete = [one for one in looked.value or () if not problems(one)]
            newest = max(complete, key=lambda one: one.step, default=None)
            if newest is not None and not self._folder(trainer, newest.step).exists():
                return trainer, newest
        return None

    def _is_last(self, trainer: str, checkpoint: BoxCheckpoint) -> bool:
        """True for the last step of the last trainer: nothing is trained on from it, the export is made of it."""
        job = self._context.job
        return trainer == job.trainers[-1] and checkpoint.step >= job.training.steps[job.trainers[-1]]

    def _errand_for(self, trainer: str, checkpoint: BoxCheckpoint) -> _Errand:
        job = self._context.job
        names = ADAPTER if job.model.lora_r else (weights_of(checkpoint.files) or "", "config.json", STATE)
        only = {name: posixpath.join(checkpoint.path, name) for name in names}
        return _Errand(
            host=self._context.fresh_host(),
            trainer=trainer,
            checkpoint=checkpoint,
            folder=self._folder(trainer, checkpoint.step),
            files=only if job.training.mirror == "adapter" or self._is_last(trainer, checkpoint) else None,
            run_file=None if job.unmodified else posixpath.join(job.package.remote_dir, RUN_FILE),
        )

    def _folder(self, trainer: str, step: int) -> Path:
        return self._context.directory / MIRROR / trainer / f"checkpoint-{step}"

    def _conclude(self) -> None:
        """Record what came home; what failed unless it was called off is told, and tried again at the next look."""
        errand, self._errand = self._errand, None
        if errand is None:
            return
        if errand.failure is None and errand.folder.is_dir():
            self._context.record(CheckpointMirrored(errand.trainer, errand.checkpoint.step))
            self._reporter.note(f"{errand.trainer} step {errand.checkpoint.step} is mirrored here")
            _prune(errand.folder)
        elif not errand.cancelled.is_set():
            self._tell(errand.trainer, errand.checkpoint, errand.failure or CouldNotLook("it did not arrive"))

    def _tell(self, trainer: str, checkpoint: BoxCheckpoint, error: Exception) -> None:
        said = printable(str(error))
        self._reporter.note(f"the checkpoint of {trainer} step {checkpoint.step} could not be mirrored: {said}")


def _prune(newest: Path) -> None:
    """Delete all but the newest whole checkpoints of a trainer, and what attempts at older ones left.

    What cannot be deleted stays: it costs room here, and ends no watch.
    """
    whole = [path for _, path in checkpoints.named(newest.parent)]
    for path in {path for path in newest.parent.iterdir() if path.is_dir()} - {*whole[-_KEPT:]}:
        with contextlib.suppress(OSError):
            for file in path.rglob("*"):
                file.chmod(0o777 if file.is_dir() else 0o666)  # Windows does not delete read-only files
            shutil.rmtree(path)
