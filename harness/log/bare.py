"""A log as transformers and TRL print it by themselves: a dictionary for each logged step, as Python shows it. Pure.

Version 4 prints numbers, version 5 prints them as text; either may stand behind a progress bar. Only the order
tells which step it is, so that steps are counted as they are logged.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from harness.log.grammar import StageComplete, Step, Trainer
from harness.log.summary import TrainerLog

_ENTRY: Final = re.compile(r"\{'[^{}]*\}")
_PAIR: Final = re.compile(r"'([\w/.-]+)': '?([+-]?(?:nan|inf|[0-9][0-9.]*(?:[eE][+-]?[0-9]+)?))'?(?=[,}])")

Entry = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class BareTraining:
    """One ``train()`` of a trainer: what it logged, in its order, and whether it said that it is done."""

    trainer: Trainer
    entries: tuple[Entry, ...]
    ended: bool
    begins_at: int = 0
    """Number of the line of its first step, the log's first being 0."""
    eval_losses: tuple[float, ...] = ()

    def all(self, name: str) -> tuple[float, ...]:
        """The values logged under a name."""
        return tuple(entry[name] for entry in self.entries if name in entry)

    @property
    def by_rewards(self) -> bool:
        """True for GRPO and its kin: their loss is a mean of advantages, near 0 or below, and tells no course."""
        return all("reward" in entry for entry in self.entries)

    @property
    def log(self) -> TrainerLog:
        """The same, as the contract's lines would have told it."""
        total = len(self.entries)
        return TrainerLog(
            steps=tuple(
                Step(self.trainer, at, total, entry["loss"], entry.get("learning_rate", math.nan), math.nan)
                for at, entry in enumerate(self.entries, start=1)
            ),
            complete=StageComplete(self.trainer, total, total) if self.ended else None,
        )


def read(log_lines: Iterable[str]) -> tuple[BareTraining, ...]:
    """The trainings that clean lines tell of, one after the other."""
    trainings: list[list[Entry]] = []
    evaluated: list[list[float]] = []
    begun: list[int] = []
    for at, entry in _entries(log_lines):
        if "loss" not in entry and "train_runtime" not in entry:  # of an evaluation in between
            if trainings:
                evaluated[-1].append(entry["eval_loss"])
            continue
        open_ = bool(trainings) and "loss" in trainings[-1][-1]
        if open_ and ("loss" not in entry or _goes_on(trainings[-1][-1], entry)):
            trainings[-1].append(entry)
        elif "loss" in entry:
            trainings.append([entry])
            evaluated.append([])
            begun.append(at)
    return tuple(
        BareTraining(
            _trainer(told[0]),
            tuple(entry for entry in told if "loss" in entry),
            "loss" not in told[-1],
            at,
            tuple(losses),
        )
        for told, at, losses in zip(trainings, begun, evaluated, strict=True)
    )


def _entries(log_lines: Iterable[str]) -> Iterator[tuple[int, Entry]]:
    """Logged entries, each with the number of its line, the first being 0."""
    for at, line in enumerate(log_lines):
        for match in _ENTRY.finditer(line):
            entry = {name: float(value) for name, value in _PAIR.findall(match.group())}
            if not entry.keys().isdisjoint({"loss", "train_runtime", "eval_loss"}):
                yield at, entry


def _trainer(entry: Entry) -> Trainer:
    return Trainer.DPO if "rewards/margins" in entry else Trainer.SFT


def _goes_on(before: Entry, entry: Entry) -> bool:
    """False when the epoch went back, or another kind is logged: another training has begun, or this one again."""
    return _trainer(entry) is _trainer(before) and entry.get("epoch", 0.0) >= before.get("epoch", 0.0)
