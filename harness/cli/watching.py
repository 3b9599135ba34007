"""Looks at a job beside whoever drives it: no lock is taken, and nothing is changed, here or on the box."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Protocol

from harness import facts as stages
from harness.cli.picture import Look
from harness.context import JobContext
from harness.core.errors import HarnessError, StoreFailed
from harness.facts import training
from harness.facts.training import TrainingFacts
from harness.ledger.history import History
from harness.ledger.looks import newest_look, no_box


class LookingContext(JobContext, Protocol):
    """A job's context that can be looked at again while another process drives the job."""

    def read_anew(self) -> None:
        """Forget what the event log told."""


@dataclass(slots=True)
class Watcher:
    """Looks at one job again and again; where the box cannot be asked, the newest look stands, and its age is told."""

    context: LookingContext
    _last: Look | None = field(default=None, repr=False)

    def look(self) -> Look:
        """The job as it stands. Raises StoreFailed when its log never could be read."""
        before = self._last
        try:
            self.context.read_anew()
            history = self.context.history
        except StoreFailed as error:
            if before is None:
                raise
            self._last = dataclasses.replace(before, problem=str(error))
            return self._last
        if before is None or before.history.alive != history.alive:
            before = _recorded(history)
        self._last = self._seen(dataclasses.replace(before, history=history, problem=None))
        return self._last

    def _seen(self, before: Look) -> Look:
        """The box as it is now, as far as it has one that runs."""
        history = before.history
        if no_box(history) is not None:
            return before
        found = training.glance(self.context, before.facts)
        if found.disk.value is None and found.session.value is None:
            return dataclasses.replace(before, problem=found.disk.problem)
        return Look(history, found, self.context.clock.now())


def _recorded(history: History) -> Look:
    """The newest look of whoever drives the job, where that is written down."""
    file = newest_look(history)
    if file is None:
        return Look(history)
    try:
        told = stages.typed(file)
    except HarnessError:
        return Look(history)
    return Look(history, told, file.taken_at) if isinstance(told, TrainingFacts) else Look(history)
