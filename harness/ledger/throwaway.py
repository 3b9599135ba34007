"""Throwaway instances: rented by a conformance run for itself, in a journal of that run's own, apart from all jobs.

Every step is on the disk before it is taken and after it, so that a run that was killed is found and ended. A torn last
line is a step that was not taken. No job can have such a label: a job's name begins with a letter or a digit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from harness.core import durable
from harness.core.errors import Conflict
from harness.core.ids import LABEL_PREFIX, InstanceId, new_nonce
from harness.core.ports import Clock
from harness.core.text import command_line
from harness.providers import registry

LABEL_LENGTH = 78
"""As long as the longest label of a job: whether one is kept whole is then seen on it."""

_PREFIX = f"{LABEL_PREFIX}-_trial-"
_FOLDER, _FILE = "conformance", "journal.jsonl"


class TrialStep(StrEnum):
    """Step of a run, as its journal names it."""

    BEGUN = "begun"
    KEYS_INTENDED = "keys_intended"
    KEYS_REVOKED = "keys_revoked"
    RENT_INTENDED = "rent_intended"
    RENTED = "rented"
    NOT_RENTED = "not_rented"
    DESTROY_INTENDED = "destroy_intended"
    DESTROY_REQUESTED = "destroy_requested"
    GONE = "gone"
    UNBILLED = "unbilled"


_BILLS = frozenset({TrialStep.RENT_INTENDED, TrialStep.RENTED})


@dataclass(frozen=True, slots=True)
class Throwaway:
    """The journal of one run, in a folder of its own; ``clock`` dates what is recorded."""

    folder: Path
    clock: Clock = field(repr=False, compare=False)
    steps: list[dict[str, Any]] = field(default_factory=list)

    def record(self, step: TrialStep, **told: object) -> None:
        """Append a step; it is on the disk when this returns."""
        entry = {"step": str(step), "at": self.clock.now(), **told}
        durable.append(self.folder / _FILE, (json.dumps(entry) + "\n").encode())
        self.steps.append(entry)

    def last(self, step: TrialStep) -> dict[str, Any] | None:
        """The newest of a kind of step."""
        return next((one for one in reversed(self.steps) if one["step"] == step), None)

    @property
    def nonce(self) -> str:
        """Eight hexadecimal digits that only this run has."""
        return self.folder.name

    @property
    def label(self) -> str:
        """The label of its instance. What tells it apart comes first: one that is cut short still does."""
        return f"{self._mark}-".ljust(LABEL_LENGTH, "x")

    @property
    def _mark(self) -> str:
        return f"{_PREFIX}{self.nonce}"

    @property
    def place(self) -> Mapping[str, Any]:
        """The account that it rents at, as ``registry.place`` has it."""
        return registry.place(self.steps[0]["kind"], self.steps[0]["own"])

    @property
    def owner(self) -> int:
        """Number of the account that rents."""
        return int(self.steps[0]["owner"])

    @property
    def instance_id(self) -> InstanceId | None:
        """Number of its instance, once it is known."""
        rented = self.last(TrialStep.RENTED)
        return InstanceId(rented["instance_id"]) if rented is not None else None

    @property
    def may_bill(self) -> bool:
        """True from the intent to rent until nothing came of it, or the end of its bill is proven."""
        return (
            self._newest(TrialStep.RENT_INTENDED, TrialStep.RENTED, TrialStep.NOT_RENTED, TrialStep.UNBILLED) in _BILLS
        )

    @property
    def keeps_keys(self) -> bool:
        """True while a scoped key that it made may be left."""
        return self._newest(TrialStep.KEYS_INTENDED, TrialStep.KEYS_REVOKED) == TrialStep.KEYS_INTENDED

    def _newest(self, *steps: TrialStep) -> str | None:
        return next((one["step"] for one in reversed(self.steps) if one["step"] in steps), None)

    @property
    def usd(self) -> float | None:
        """Sum that its instance was charged (USD), by the proof that this ended."""
        ended = self.last(TrialStep.UNBILLED)
        return float(ended["usd"]) if ended is not None else None

    @property
    def end_command(self) -> str:
        """The command that destroys what is left of it."""
        begun = self.steps[0]
        where = [word for name, value in begun["own"].items() for word in (f"--{name.replace('_', '-')}", str(value))]
        return command_line(["harness", "conformance", "--provider", begun["kind"], *where, "--end"])

    def owns(self, number: object, label: str | None) -> bool:
        """True for an instance of this run, by the number that was recorded or by the label."""
        return number == self.instance_id or self.labels(label)

    def labels(self, label: str | None) -> bool:
        """True for this run's label, also where it was cut short behind what tells it apart."""
        return bool(label) and self.label.startswith(str(label)) and len(str(label)) >= len(self._mark)

    def at_work(self) -> bool:
        """True while a process drives it."""
        with durable.sole_writer(self.folder / _FILE) as alone:
            return not alone

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One process at a time; raises Conflict."""
        with durable.sole_writer(self.folder / _FILE) as alone:
            if not alone:
                raise Conflict(f"another process drives conformance run {self.nonce}", remedy="Wait until it ends.")
            path = self.folder / _FILE
            whole, torn = path.read_bytes().rpartition(b"\n")[::2]
            if torn:  # or what is recorded next would stand behind it on one line
                durable.write(path, whole + b"\n" if whole else b"")
            yield


def begin(home: Path, clock: Clock, kind: str, own: Mapping[str, Any], owner: int) -> Throwaway:
    """A new run's journal, at a provider of this kind with settings of its own; nothing is rented yet."""
    run = Throwaway(home / _FOLDER / new_nonce(), clock)
    run.folder.mkdir(parents=True, mode=0o700)
    run.record(TrialStep.BEGUN, kind=kind, own=dict(own), owner=owner)
    return run


def runs(home: Path, clock: Clock) -> tuple[Throwaway, ...]:
    """Every run of this user whose journal reads; what another one has rented shows as an orphan, by its label."""
    found = (_read(path, clock) for path in sorted((home / _FOLDER).glob(f"*/{_FILE}")))
    return tuple(run for run in found if run is not None)


def _read(path: Path, clock: Clock) -> Throwaway | None:
    try:
        lines = path.read_bytes().rpartition(b"\n")[0].split(b"\n")
        run = Throwaway(path.parent, clock, [dict(json.loads(line)) for line in lines])
        told = run.place and run.owner
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return run if told else None
