"""What the runner needs of a desk, beyond looking: it records, judges, and opens connections anew."""

from __future__ import annotations

from typing import Protocol

from harness.guard import RecordingDesk
from harness.wiring import TakenFacts


class RunnerDesk(RecordingDesk, Protocol):
    """A desk that a job can be driven from."""

    def take_facts(self, stage: str) -> TakenFacts:
        """Look at a stage's world once and write down what was seen."""

    def forget_connections(self) -> None:
        """Close what is open; it is opened again, with what is known by then, when next needed."""

    def shown_host_key(self) -> str:
        """The host key that the box shows now, before one is pinned."""
