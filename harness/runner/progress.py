"""Progress that the runner tells whoever watches. It decides nothing."""

from __future__ import annotations

from typing import Final, Protocol

from harness.core.lifecycle import Stage
from harness.core.rate import SECONDS, Meter
from harness.gates.evidence import GateResult

STEPS: Final = Meter("steps", "steps")
UPLOAD: Final = Meter("upload")
DOWNLOAD: Final = Meter("download")


class ProgressReporter(Protocol):
    """Shows a job's progress: a live terminal, plain lines, or nothing in a test."""

    def stage(self, stage: Stage) -> None:
        """A stage is entered."""

    def note(self, text: str) -> None:
        """Something worth a line; the text may hold a stranger's words and is made printable by the reporter."""

    def meter(self, meter: Meter, done: int, total: int, detail: str = "") -> None:
        """Progress of something long, or that a wait begins: how far it is by now, and its whole."""

    def judged(self, stage: Stage, gate: GateResult) -> None:
        """A gate has decided; every check's verdict is in it."""


def waiting(what: str) -> Meter:
    """The meter of a wait."""
    return Meter(what, SECONDS)
