"""A log as trainers print it by themselves: a record for each logged step. Pure.

Four ways to write one are known: a dictionary as Python shows it (transformers, TRL and what rests on them; version 4
prints numbers, version 5 prints them as text; either may stand behind a progress bar), an object of JSON to a line
(``logging.jsonl`` of ms-swift, ``trainer_log.jsonl`` of LLaMA-Factory), and ``Step N | loss:... lr:...`` of torchtune.
Where a record does not tell its step, only the order does, so that steps are counted as they are logged.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from harness.log.grammar import DPO, SFT, StageComplete, Step, Trainer
from harness.log.summary import TrainerLog

_NUMBER: Final = re.compile(r"[+-]?(?:nan|inf|[0-9][0-9.]*(?:[eE][+-]?[0-9]+)?)")
_PYTHON: Final = re.compile(r"\{'[^{}]*\}")
_PYTHON_PAIR: Final = re.compile(r"'([^']+)': '?([^',{}]*)'?(?=[,}])")
_TORCHTUNE: Final = re.compile(r"(?:^|[\s\]])Step (\d{1,12}) \| (\S.*)")
_TORCHTUNE_PAIR: Final = re.compile(r"([\w/.-]+):(\S+)")
_COUNTED: Final = re.compile(r"(\d{1,12})/(\d{1,12})")
"""ms-swift tells step and total in one text, under ``global_step/max_steps``."""
_OTHER_NAMES: Final = {
    "lr": "learning_rate",
    "val_loss": "eval_loss",
    "current_steps": "step",
    "total_steps": "total",
}
_LONGEST_TEXT: Final = 40
"""Characters of a text in a trainer's record, which tells a time or a share; a longer one is of a row of data."""

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
        numbers = [int(entry.get("step", at)) for at, entry in enumerate(self.entries, start=1)]
        total = int(self.entries[-1].get("total", numbers[-1]))
        return TrainerLog(
            steps=tuple(
                Step(self.trainer, number, total, entry["loss"], entry.get("learning_rate", math.nan), math.nan)
                for number, entry in zip(numbers, self.entries, strict=True)
            ),
            complete=StageComplete(self.trainer, numbers[-1], total) if self.ended else None,
        )


def read(log_lines: Iterable[str]) -> tuple[BareTraining, ...]:
    """The trainings that clean lines tell of, one after the other."""
    trainings: list[list[Entry]] = []
    evaluated: list[list[float]] = []
    begun: list[int] = []
    for at, entry in _entries(log_lines):
        if "loss" not in entry and not _ends(entry):  # of an evaluation in between
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


def tells_of_steps(log_lines: Iterable[str]) -> bool:
    """True when one of some clean lines is a trainer's record of a step."""
    return any("loss" in entry for _, entry in _entries(log_lines))


def _entries(log_lines: Iterable[str]) -> Iterator[tuple[int, Entry]]:
    """Logged entries, each with the number of its line, the first being 0."""
    for at, line in enumerate(log_lines):
        for record in _records(line):
            entry = _entry(record)
            if not entry.keys().isdisjoint({"loss", "eval_loss"}) or _ends(entry):
                yield at, entry


def _records(line: str) -> Iterator[Mapping[str, str]]:
    if line.startswith('{"'):
        record = _object(line)
        if record is not None:
            yield record
        return
    for shown in _PYTHON.finditer(line):
        yield dict(_PYTHON_PAIR.findall(shown.group()))
    if (logged := _TORCHTUNE.search(line)) is not None:
        yield {"step": logged[1], **dict(_TORCHTUNE_PAIR.findall(logged[2]))}


def _object(line: str) -> Mapping[str, str] | None:
    """A trainer's record in JSON; None for a row of data, which holds texts, and for what is cut."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    texts = [value for value in told.values() if isinstance(value, str)]
    if any(len(text) > _LONGEST_TEXT or not any(map(str.isdigit, text)) for text in texts):
        return None
    return {name: str(value) for name, value in told.items()}


def _entry(record: Mapping[str, str]) -> Entry:
    """Numbers of a record by transformers' names for them; ``step`` and ``total`` where it tells them."""
    found: dict[str, float] = {}
    for name, value in record.items():
        if _NUMBER.fullmatch(value):
            found[_OTHER_NAMES.get(name, name)] = float(value)
        elif "global_step" in name and (counted := _COUNTED.fullmatch(value)) is not None:
            found |= {"step": float(counted[1]), "total": float(counted[2])}
    return found


def _ends(entry: Entry) -> bool:
    """True for what a trainer logs last: its summary, or its last step once more without a loss."""
    if "train_runtime" in entry:
        return True
    return entry.keys().isdisjoint({"loss", "eval_loss"}) and entry.get("step", 0.0) >= entry.get("total", math.inf)


def _trainer(entry: Entry) -> Trainer:
    return DPO if "rewards/margins" in entry else SFT


def _goes_on(before: Entry, entry: Entry) -> bool:
    """False when the step went back, or another kind is logged: another training has begun, or this one again."""
    place = "step" if "step" in before and "step" in entry else "epoch"
    return _trainer(entry) == _trainer(before) and entry.get(place, 0.0) >= before.get(place, 0.0)
